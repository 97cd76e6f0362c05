"""A monitor that looks again and again: a Shiryaev-Roberts e-detector on counts by bin.

While values keep to the reference, the likelihood ratio of an alternative against it has mean 1 at
every look, given all before. For each alternative R <- (1 + R) * ratio; the monitor alarms when the
average of R over the alternatives reaches c = looks in 30 days / alarms accepted in 30 days, and
starts again from 0. R grows by 1 per look on average, so in any number of looks from a start the
expected number of alarms is at most looks / c (Roberts 1966; e-detectors: Shin, Ramdas, Rinaldo,
arXiv 2203.03532), however the values are spread over looks.

Values that come in clumps are not independent. The design effect says how many values weigh as one;
the ratio to the power 1 / design effect keeps a mean of at most 1 where clumps are copies (Jensen).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from ..gates.canonical import canonical_json, sha256
from .alternatives import alternatives, log_ratios, smoothed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WatchState:
    """What a monitor remembers of one series between two looks.

    Attributes:
        watch: digest of what it was computed with.
        end_s: end of the last look.
        looks: looks counted, those with values.
        log_r: ln(1 + R) of each alternative.
        log_e: ln of the e-value after the last look, the average R / looks in 30 days: what e-BH asks.
        alarm: whether the last look alarmed.
        alarms: alarms so far.
    """

    watch: str
    end_s: int = 0
    looks: int = 0
    log_r: tuple[float, ...] = ()
    log_e: float | None = None
    alarm: bool = False
    alarms: int = 0

    def to_json(self) -> str:
        """Canonical JSON; equal states give equal text."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WatchState:
        """The state that `to_json` wrote, exactly.

        Raises:
            ValueError: if the text is not such a state.
        """
        try:
            data = json.loads(text)
            return cls(**{**data, "log_r": tuple(data["log_r"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a monitor: {error}") from error


class Watch:
    """A monitor of one series.

    Args:
        identity: of what a changed value of must reset it, such as the monitor's configuration and
            the version of an uploaded reference.
        bins: of the counts.
        ordered: whether the bins are of a number.
        looks_per_30d: looks in 30 days.
        alarms_per_30d: false alarms accepted in 30 days.
        design_effect: values that weigh as one, at least 1; see `design_effect`.

    Raises:
        ValueError: a rate that is not positive, or a design effect below 1.

    >>> watch = Watch("latency", 10, ordered=True, looks_per_30d=720, alarms_per_30d=0.01)
    >>> reference = np.full(10, 1000)
    >>> state = watch.look(watch.begin(), 3600, reference, np.full(10, 30))
    >>> state.alarm
    False
    >>> shifted = np.array([5, 10, 15, 20, 30, 30, 40, 40, 50, 60])
    >>> watch.look(state, 7200, reference, shifted).alarm
    True
    """

    def __init__(
        self,
        identity: str,
        bins: int,
        ordered: bool,
        looks_per_30d: int,
        alarms_per_30d: float,
        design_effect: float = 1.0,
    ) -> None:
        if looks_per_30d <= 0 or alarms_per_30d <= 0 or design_effect < 1:
            raise ValueError("rates must be positive and the design effect at least 1")
        self._ordered = ordered
        self._size = alternatives(bins, ordered)
        self._design_effect = design_effect
        self._log_looks = math.log(looks_per_30d)
        self._log_c = self._log_looks - math.log(alarms_per_30d)
        self.digest = sha256([identity, bins, ordered, looks_per_30d, alarms_per_30d])

    @property
    def blind(self) -> bool:
        """Whether the design effect is not known, so that nothing can be said."""
        return math.isinf(self._design_effect)

    def begin(self, state: WatchState | None = None) -> WatchState:
        """The state to go on from: a new one where there is none, or where identity or rates
        changed since. Compare `state.watch` with `digest` to tell so.
        """
        if state is not None and state.watch == self.digest:
            return state
        return WatchState(self.digest, log_r=(0.0,) * self._size)

    def look(self, state: WatchState, end_s: int, reference: Ints, counts: Ints) -> WatchState:
        """Count the values of one look that ends at `end_s`.

        A look that ends at or before the last one changes nothing, so that repeats are harmless.
        Looks must not overlap: a value is counted once. A look without values is no look.

        Args:
            state: after the last look.
            end_s: end of this look in seconds of event time.
            reference: counts by bin that the look is compared with, shape (k,), such as
                `Scores.bins_reference`; another one at every look where hours of the week differ.
                Of categories by position, with a last bin for whatever the reference lacks.
            counts: of the look, shape (k,).

        Raises:
            ValueError: the state is of another watch.
        """
        if state.watch != self.digest:
            raise ValueError("the state is of another monitor: begin anew")
        if end_s <= state.end_s:
            return state
        if self.blind or not counts.any():
            return replace(state, end_s=end_s, alarm=False)
        ratios = log_ratios(reference, self._ordered, self._design_effect)
        log_r = np.array(state.log_r) + (ratios @ counts) / self._design_effect
        log_mean = float(np.logaddexp.reduce(log_r)) - math.log(len(log_r))
        alarm = log_mean >= self._log_c
        after = np.zeros(len(log_r)) if alarm else np.logaddexp(0.0, log_r)
        return replace(
            state,
            end_s=end_s,
            looks=state.looks + 1,
            log_r=tuple(after.tolist()),
            log_e=log_mean - self._log_looks,
            alarm=alarm,
            alarms=state.alarms + alarm,
        )


def design_effect(blocks: Ints, ordered: bool) -> float:
    """How many values weigh as one: how much more the reference's own blocks vary than chance says.

    For each alternative the mean ratio of a block varies about 1; the variance over blocks is divided
    by that of as many independent values, and the largest quotient is returned, at its upper 95 %
    limit, at least 1. It holds what clumps, days and hours do to blocks as long as a look: neighbours
    that are alike move a block as a whole, which a chi-square over bins would average away.

    Args:
        blocks: counts by block and bin, shape (b, k); blocks without values are left out.
        ordered: as of the watch.

    Returns:
        Infinity for fewer than two blocks: nothing is known, and the watch sees nothing.

    >>> design_effect(np.full((24, 10), 50), ordered=True)
    1.0
    """
    sizes = blocks.sum(axis=1)
    used, sizes = blocks[sizes > 0], sizes[sizes > 0]
    freedom = len(used) - 1
    if freedom < 1:
        return math.inf
    whole = used.sum(axis=0)
    share = smoothed(whole)
    ratios = np.exp(log_ratios(whole, ordered))
    ratios -= (ratios @ share)[:, None]
    expected = np.maximum((ratios**2) @ share, 1e-300)
    seen = ((ratios @ used.T) ** 2 / sizes).sum(axis=1) / freedom
    upper = freedom / float(special.chdtri(freedom, 0.95))
    return max(1.0, upper * float((seen / expected).max()))
