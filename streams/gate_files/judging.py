"""A gate and its files: the verdict, whatever state the files are in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...schemas.gates import OfflineGate
from ...schemas.gates.absolute import AbsoluteGate, LatencyLimit
from ...schemas.gates.parity import ParityGate
from ...schemas.gates.perf import PerfGate
from ...schemas.gates.shadow import ShadowGate
from ...schemas.gates.stability import StabilityGate
from ..core.gates import absolute
from ..core.gates.histograms import Histograms, cells_between, join, unmeasured
from ..core.gates.offline import (
    parity,
    perf,
    perf_histograms,
    shadow,
    stability,
    training,
)
from ..core.gates.offline.conclude import Check, nothing
from ..core.gates.reasons import Reason
from ..core.gates.units import CELL_US, CellCounts
from ..core.gates.verdict import Verdict, action_of
from .exposition import is_exposition
from .histograms import Choice, read_histograms
from .items import read_items
from .reading import InvalidFile, NoFile
from .requests import cells_of, read_requests
from .runs import read_run

OnFiles = OfflineGate | AbsoluteGate
PAIRED = (ParityGate, PerfGate, ShadowGate)
"""Kinds that compare a run with a baseline."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a gate is asked about.

    Attributes:
        run: of the new build.
        baseline: what it is compared with; None for kinds that compare nothing.
        before, baseline_before: counters at the start of either, where it is a saved /metrics.
        choice: which histograms of a saved /metrics are meant.
    """

    run: Path
    baseline: Path | None = None
    before: Path | None = None
    baseline_before: Path | None = None
    choice: Choice = field(default_factory=Choice)


def judge(spec: OnFiles, files: Files) -> Verdict:
    """The verdict of a gate on files.

    A file that is not there is NO_DATA, one that is not what it should be INVALID: both say which,
    where and what to do, and neither is ever a pass.
    """
    try:
        return _evaluate(spec, files)
    except NoFile as error:
        return _without(spec, "NO_DATA", error)
    except (InvalidFile, ValueError) as error:
        return _without(spec, "INVALID", error)


def _evaluate(spec: OnFiles, files: Files) -> Verdict:
    if isinstance(spec, AbsoluteGate | PerfGate) and is_exposition(files.run):
        return _of_histograms(spec, files)
    if files.before is not None or files.baseline_before is not None:
        raise InvalidFile(
            f"{files.run}: a file before it is only taken from counters, as a saved /metrics has "
            "them, and by absolute and perf gates"
        )
    if isinstance(spec, ParityGate):
        return parity.evaluate(
            spec, read_items(files.run, spec.item), read_items(_baseline(files), spec.item)
        )
    if isinstance(spec, ShadowGate):
        return shadow.evaluate(
            spec, read_items(files.run, spec.pair), read_items(_baseline(files), spec.pair)
        )
    if isinstance(spec, PerfGate):
        return perf.evaluate(spec, read_run(files.run), read_run(_baseline(files)))
    if isinstance(spec, StabilityGate):
        return stability.evaluate(spec, read_run(files.run))
    if isinstance(spec, AbsoluteGate):
        return _absolute(spec, files.run)
    return training.evaluate(spec, read_run(files.run, "training"))


def _baseline(files: Files) -> Path:
    if files.baseline is None:
        raise NoFile("no baseline was given, and nothing can be compared; give --baseline")
    return files.baseline


def _absolute(spec: AbsoluteGate, path: Path) -> Verdict:
    cells, timed = cells_of(spec, read_requests(path))
    return _whole(spec, cells, timed)


def _whole(spec: AbsoluteGate, cells: CellCounts, timed: bool) -> Verdict:
    """The whole file: a PASS is what holds at its end, not what held once on the way."""
    # rows without a time of their own cannot bake: minutes are not asked of them
    asked = spec if timed else spec.model_copy(update={"min_bake_s": 0})
    start_us = int(cells.end_us[0]) - CELL_US if len(cells) else 0
    end_us = int(cells.end_us[-1]) if len(cells) else 0
    state = absolute.initial_state(asked, 0, start_us)
    # while the coverage is not known nothing passes; at the end the file is all there is
    on_the_way = absolute.Context(end_us, coverage=None, coverage_state="unknown")
    state, _ = absolute.evaluate(asked, state, cells, on_the_way)
    _, verdict = absolute.evaluate(asked, state, cells.part(0, 0), absolute.Context(end_us))
    return replace(verdict, action=action_of(spec, verdict.verdict, deadline_passed=True))


def _of_histograms(spec: AbsoluteGate | PerfGate, files: Files) -> Verdict:
    if isinstance(spec, PerfGate):
        return _perf_of_histograms(spec, files)
    fields = [limit.field for limit in spec.metrics if isinstance(limit, LatencyLimit)]
    found = read_histograms(files.run, files.before, fields, files.choice)
    why = unmeasured(spec, found)
    if why:
        return nothing(spec, Check("measured", False, why, "NO_DATA", "metric_missing"))
    fewest, most = (_whole(spec, cells, timed=False) for cells in cells_between(spec, found))
    told = join(spec, found, fewest, most)
    return replace(told, action=action_of(spec, told.verdict, deadline_passed=True))


def _perf_of_histograms(spec: PerfGate, files: Files) -> Verdict:
    baseline = _baseline(files)
    if not is_exposition(baseline):
        raise InvalidFile(
            f"{baseline}: is no saved /metrics as {files.run} is; compare two of one kind"
        )
    sides = ((files.run, files.before), (baseline, files.baseline_before))
    if spec.warmup and any(before is None for _, before in sides):
        raise InvalidFile(
            f"{files.run}: a histogram has no order, so warmup: {spec.warmup} cannot be left out; save "
            "/metrics after the warmup and give it as --before and --baseline-before, or set warmup: 0"
        )
    fields = [metric.metric for metric in spec.metrics]
    found: list[Histograms] = [
        read_histograms(path, before, fields, files.choice) for path, before in sides
    ]
    return perf_histograms.evaluate(spec, *found)


def _without(spec: OnFiles, verdict: Literal["NO_DATA", "INVALID"], error: Exception) -> Verdict:
    reason: Reason = "no_file" if verdict == "NO_DATA" else "unreadable_file"
    return nothing(spec, Check("file", False, str(error), verdict, reason))
