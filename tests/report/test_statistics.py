from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mz.report.statistics import SnrMeter, paired_difference, share_interval, wilson_interval

SHARES = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
PAIRS = st.integers(1, 200).flatmap(
    lambda n: st.tuples(
        hnp.arrays(bool, n, elements=st.booleans()), hnp.arrays(bool, n, elements=st.booleans())
    )
)


def cells(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


@given(SHARES)
def test_wilson_solves_the_score_equation(share: tuple[int, int]) -> None:
    correct, n = share
    for bound in wilson_interval(correct, n):
        p = bound / 100
        assert (correct / n - p) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / n, rel=1e-4, abs=1e-12)


@given(SHARES)
def test_wilson_holds_the_share_and_mirrors(share: tuple[int, int]) -> None:
    correct, n = share
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= 100 * correct / n <= high <= 100
    mirrored_low, mirrored_high = wilson_interval(n - correct, n)
    assert (low, high) == pytest.approx((100 - mirrored_high, 100 - mirrored_low), abs=1e-9)


def test_wilson_by_published_value() -> None:
    assert wilson_interval(81, 263) == pytest.approx(
        (25.53, 36.62), abs=0.005
    )  # Newcombe 1998, Stat. Med. 17:857
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


def test_paired_difference_by_published_value() -> None:
    difference, low, high = paired_difference(*cells(36, 12, 2, 0))  # Newcombe 1998, the paper of method 10
    assert (difference, low, high) == pytest.approx((20.0, 5.69, 34.04), abs=0.005)


@given(PAIRS)
def test_paired_difference_holds_the_difference_and_is_odd(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(100 * (a.mean() - b.mean()), abs=1e-9)
    assert -100 - 1e-9 <= low <= difference <= high <= 100 + 1e-9
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low), abs=1e-9)


def test_pairs_that_agree_narrow_the_interval() -> None:
    _, low, high = paired_difference(*cells(9000, 50, 50, 900))
    _, unpaired_low, unpaired_high = paired_difference(*cells(8190, 860, 860, 90))
    assert high - low < 0.45 < 1.5 < unpaired_high - unpaired_low


def test_the_paired_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    probabilities, n = [0.90, 0.03, 0.02, 0.05], 500
    held = 0
    for _ in range(1000):
        _, low, high = paired_difference(*cells(*rng.multinomial(n, probabilities)))
        held += low <= 1.0 <= high
    assert 0.92 <= held / 1000 <= 0.98


def test_a_share_of_whole_images_has_wilsons_interval() -> None:
    parts, wholes = np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4)
    assert share_interval(parts, wholes) == wilson_interval(3, 4)
    assert share_interval(2 * parts, 2 * wholes) == wilson_interval(3, 4)


def test_a_share_of_parts_of_images_is_as_sure_as_images_are_alike() -> None:
    rng = np.random.default_rng(0)
    wholes = rng.uniform(1, 2, 400)
    near, far = (wholes * rng.uniform(low, 1, 400) for low in (0.998, 0.5))
    for parts, width in ((near, 0.02), (far, 4.0)):
        low, high = share_interval(parts, wholes)
        assert low < 100 * parts.sum() / wholes.sum() < high and 0.2 * width < high - low < width


@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-100, 100, width=32)),
    st.integers(0, 50),
    st.floats(0.001, 10),
)
def test_snr_does_not_depend_on_batches(reference: np.ndarray, cut: int, scale: float) -> None:
    test = reference + np.float32(scale)
    whole, parts = SnrMeter(), SnrMeter()
    whole.update(reference, test)
    parts.update(reference[:cut], test[:cut])
    parts.update(reference[cut:], test[cut:])
    assert parts.db == pytest.approx(whole.db, abs=1e-9, nan_ok=True)


def test_snr_by_hand() -> None:
    meter = SnrMeter()
    assert math.isnan(meter.db)
    meter.update(np.array([[10.0], [0.0]]), np.array([[9.0], [0.0]]))
    assert meter.db == pytest.approx(20.0)


def test_snr_at_its_ends() -> None:
    exact, lost = SnrMeter(), SnrMeter()
    exact.update(np.ones(3), np.ones(3))
    assert exact.db == math.inf
    lost.update(np.zeros(3), np.ones(3))
    assert lost.db == -math.inf
    huge = SnrMeter()
    huge.update(np.full(4, 3e38, np.float32), np.full(4, 2.9e38, np.float32))
    assert math.isfinite(huge.db)
    with pytest.raises(ValueError, match="differ"):
        huge.update(np.ones(2), np.ones(3))
