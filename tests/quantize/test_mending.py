"""Which changes are proposed for which noise, and which of them are taken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quantize.networks import images, residual_network
from tests.quantize.test_noise_analysis import quantized

from mz.graph import Precision, TensorQuant
from mz.quantize import Alone, Mend, Range, mended, mends, noise_alone, output_noise, try_ranges, worst_first

GRAPH, PARAMS = residual_network()
QUIET = {
    name: Alone(1e-9, 1e-9, 2e-9)
    for name in ("x", "conv1", "dw1", "conv2", "add1", "deconv1", "mean1", "fc1")
}
ALL_BITS = {"activation_bits": (4, 8, 16), "weight_bits": (4, 8, 16), "layers": list(QUIET)}


def worst(alone, quantization=None, ranges=None, **limits) -> Mend:
    return mends(GRAPH, quantization or quantized(), alone, ranges or {}, **(ALL_BITS | limits))[0]


def test_a_noisy_tensor_gets_more_bits():
    mend = worst(QUIET | {"dw1": Alone(0, 0.1, 0.1)})
    assert (mend.layer, mend.what, mend.bits) == ("dw1", "activations", 16)
    assert mend.removed == pytest.approx(0.1, rel=1e-4)


def test_noisy_weights_get_the_next_bits():
    noisy = QUIET | {"conv2": Alone(0.1, 0, 0.1)}
    assert (worst(noisy).layer, worst(noisy).what, worst(noisy).bits) == ("conv2", "weights", 16)
    assert worst(noisy, quantized("a8_w4")).bits == 8
    assert worst(noisy, quantized("a8_w4")).removed == pytest.approx(0.1 * (1 - 1 / 256))


def test_a_range_that_takes_most_of_the_noise_comes_before_bits():
    noisy = QUIET | {"dw1": Alone(0, 0.1, 0.1)}
    good, poor = (Range((0.0, 99.9), noise) for noise in (0.02, 0.08))
    assert worst(noisy, ranges={("dw1",): good}).percentiles == (0.0, 99.9)
    assert worst(noisy, ranges={("dw1",): poor}).bits == 16
    assert worst(noisy, ranges={("dw1",): poor}, range_pays=0.1).percentiles == (0.0, 99.9)


def test_what_the_target_does_not_take_is_not_proposed():
    noisy = QUIET | {"dw1": Alone(0, 0.1, 0.1), "conv2": Alone(0.1, 0, 0.1)}
    found = mends(
        GRAPH, quantized(), noisy, {}, **(ALL_BITS | {"activation_bits": (8,), "weight_bits": (4, 8)})
    )
    assert found == []
    assert all(
        mend.layer == "fc1"
        for mend in mends(GRAPH, quantized(), noisy, {}, **(ALL_BITS | {"layers": ["fc1"]}))
    )


def test_tensors_that_share_a_scale_count_together():
    groups = output_noise(GRAPH, QUIET | {"add1": Alone(0, 0.1, 0.1)})
    assert groups[("add1", "pool1")] == 0.1
    assert ("mean1", "flat1") in groups


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=10), st.floats(0.1, 30))
def test_no_mend_too_many_and_none_too_few(removed: list[float], goal_db: float):
    found = [Mend(f"conv{i}", "weights", power, 16) for i, power in enumerate(sorted(removed, reverse=True))]
    total = 1.01 * sum(removed)
    taken, gain_db = worst_first(found, total, goal_db)
    assert taken == found[: len(taken)]
    assert gain_db == pytest.approx(
        10 * math.log10(total / (total - sum(mend.removed for mend in taken))), abs=1e-6
    )
    assert gain_db >= goal_db - 1e-6 or taken == found
    without_last = sum(mend.removed for mend in taken[:-1])
    assert not taken or 10 * math.log10(total / (total - without_last)) < goal_db


def test_mends_end_in_precisions_and_ranges():
    chosen = [
        Mend("conv1", "activations", 1.0, 16),
        Mend("conv1", "weights", 1.0, 16),
        Mend("dw1", "range", 1.0, percentiles=(0.1, 99.9)),
        Mend("fc1", "weights", 1.0, 8),
    ]
    precisions, percentiles = mended({"conv2": Precision(8, 4)}, quantized("a8_w4"), chosen)
    assert precisions == {"conv2": Precision(8, 4), "conv1": Precision(16, 16), "fc1": Precision(8, 8)}
    assert percentiles == {"dw1": (0.1, 99.9)}


def test_too_wide_a_range_is_found():
    quantization = quantized()
    wide = quantization.tensors["dw1"]
    quantization.tensors["dw1"] = TensorQuant(np.float32(4 * wide.scale), wide.zero_point, wide.bits)
    alone = noise_alone(GRAPH, PARAMS, quantization, images(8), bias_corrected=False)
    found = try_ranges(GRAPH, PARAMS, quantization, images(8), [("dw1",), ("add1", "pool1")])
    assert found[("dw1",)].noise < alone["dw1"].output / 2
    assert 0 <= found[("dw1",)].percentiles[0] < found[("dw1",)].percentiles[1] <= 100
    assert ("add1", "pool1") in found


def test_the_headroom_of_16_bits_is_left_alone():
    quantization = quantized(dw1=Precision(16, 8))
    found = try_ranges(GRAPH, PARAMS, quantization, images(8), [("dw1",), ("add1", "pool1")])
    assert list(found) == [("add1", "pool1")]
