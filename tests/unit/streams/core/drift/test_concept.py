"""Concept drift with labels and without."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.drift.labelled import Labelled, _macro_f1, with_labels
from penstock.streams.core.drift.unlabelled import importance_correlation, without_labels
from scipy import stats


def labelled(n: int, correct: int) -> Labelled:
    """Two balanced classes, errors balanced too."""
    wrong = n - correct
    return Labelled(
        {
            ("a", "a"): correct // 2,
            ("b", "b"): correct - correct // 2,
            ("a", "b"): wrong // 2,
            ("b", "a"): wrong - wrong // 2,
        }
    )


@pytest.mark.parametrize(
    ("correct", "state", "severity"),
    [(900, "ok", None), (850, "ok", None), (840, "drift", "medium"), (780, "drift", "high")],
)
def test_accuracy(correct: int, state: str, severity: str | None) -> None:
    found = with_labels(labelled(1000, 900), labelled(1000, correct))
    assert (found.state, found.severity) == (state, severity)
    drop = found.drops["accuracy"]
    assert drop.drop == pytest.approx(0.9 - correct / 1000)
    assert drop.low <= drop.drop <= drop.high
    table = np.array([[900, 100], [correct, 1000 - correct]])
    assert drop.p == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-9)


def test_a_large_drop_of_few_is_not_shown() -> None:
    assert with_labels(labelled(100, 90), labelled(100, 83)).state == "ok"
    assert with_labels(labelled(99, 90), labelled(1000, 300)).state == "no_data"


def test_f1_sees_what_accuracy_does_not() -> None:
    """A rare class that is no longer found: accuracy falls by 4 points, F1 by far more."""
    before = Labelled({("common", "common"): 950, ("rare", "rare"): 40, ("rare", "common"): 10})
    after = Labelled({("common", "common"): 950, ("rare", "rare"): 2, ("rare", "common"): 48})
    found = with_labels(before, after)
    assert found.reasons == ("f1",)
    assert found.severity == "high"


def test_standard_error_of_f1_is_that_of_resampling() -> None:
    cells = {("a", "a"): 300, ("a", "b"): 60, ("b", "b"): 100, ("c", "c"): 30, ("c", "a"): 10}
    value, error = _macro_f1(Labelled(cells), ["a", "b", "c"])
    rng = np.random.default_rng(1)
    draws = rng.multinomial(500, np.array(list(cells.values())) / 500, 800)
    values = [
        _macro_f1(Labelled(dict(zip(cells, row.tolist(), strict=True))), ["a", "b", "c"])[0]
        for row in draws
    ]
    assert np.mean(values) == pytest.approx(value, abs=0.01)
    assert np.std(values) == pytest.approx(error, rel=0.1)


def scored(n: int, accuracy: float, seed: int) -> Labelled:
    """Confidence is 0.9 throughout."""
    right = np.random.default_rng(seed).random(n) < accuracy
    return Labelled.of(("a", "a" if hit else "b", 0.9) for hit in right.tolist())


def test_calibration() -> None:
    found = with_labels(scored(2000, 0.9, 1), scored(2000, 0.86, 2))
    assert (found.state, found.drops["ece"].drop < 0.05) == ("ok", True)
    assert "ece" in with_labels(scored(2000, 0.9, 1), scored(2000, 0.78, 2)).reasons


def test_small_samples_do_not_look_badly_calibrated() -> None:
    rises = [
        with_labels(scored(2000, 0.9, seed), scored(100, 0.9, seed + 1000)).drops["ece"].drop
        for seed in range(30)
    ]
    assert abs(float(np.mean(rises))) < 0.015


ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("ab"), st.one_of(st.none(), st.floats(0, 1))),
    max_size=30,
)


@given(ROWS, ROWS)
@settings(max_examples=40, deadline=None)
def test_counts_add_up(
    one: list[tuple[str, str, float | None]], other: list[tuple[str, str, float | None]]
) -> None:
    whole = Labelled.of([*one, *other])
    assert Labelled.of(other) + Labelled.of(one) == whole
    assert whole.rows == len(one) + len(other)
    assert whole.correct == sum(label == predicted for label, predicted, _ in [*one, *other])


def test_equal_and_perfect_sides_are_ok() -> None:
    perfect = Labelled({("a", "a"): 500})
    found = with_labels(perfect, perfect)
    assert found.state == "ok"
    assert found.drops["f1"].p == 1.0


@pytest.mark.parametrize(
    ("given_", "state", "reasons"),
    [
        ((0.2, 0.2, 0.9), "drift", ("confidence", "class")),
        ((0.2, 0.05, 0.7), "drift", ("confidence", "importance")),
        ((0.2, 0.1, 0.8), "ok", ("confidence",)),
        ((0.2, 0.2, None), "drift", ("confidence", "class")),
        ((0.2, math.nan, None), "no_data", ("confidence",)),
        ((None, None, None), "no_data", ()),
    ],
)
def test_without_labels(
    given_: tuple[float | None, float | None, float | None], state: str, reasons: tuple[str, ...]
) -> None:
    found = without_labels(*given_)
    assert (found.state, found.reasons) == (state, reasons)


def test_importances() -> None:
    before = {"a": 0.5, "b": 0.3, "c": 0.2}
    turned = {"a": 0.1, "b": 0.3, "c": 0.6}
    assert importance_correlation(before, before) == pytest.approx(1.0)
    assert importance_correlation(before, turned) == pytest.approx(-1.0)
    assert importance_correlation({"a": 1.0}, {"b": 1.0}) is None
    assert importance_correlation(before, dict.fromkeys(before, 0.1)) is None


@given(st.randoms())
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(dice: Random) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(400).round(3).tolist()
    rows = [("ab"[at % 2], "ab"[at % 3 % 2], score) for at, score in enumerate(scores)]
    mixed = list(rows)
    dice.shuffle(mixed)
    assert with_labels(Labelled.of(rows), Labelled.of(mixed)) == with_labels(
        Labelled.of(mixed), Labelled.of(rows)
    )
