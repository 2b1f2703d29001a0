"""Weights and biases to integers, per channel and per layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.quantize.networks import LINEAR_KINDS, layer_and_kernel

from mz.emulator import layer_constants
from mz.emulator.linear import linear_sums
from mz.emulator.numerics import weight_max
from mz.graph import Dense, Graph, Input, Quantization, TensorQuant
from mz.quantize.weights import by_channel, dequantize_kernel, from_channels, quantize_weights

BITS = st.sampled_from([4, 8, 16])
SEEDS = st.integers(0, 2**32 - 1)
X = TensorQuant(np.float32(0.02), 100, 8)
Y = TensorQuant(np.float32(0.05), 128, 8)


def dense(out: int) -> Dense:
    return Dense(name="y", inputs=("x",), shape=(out,))


def quantized(kernel, bias=None, x=X, y=Y, bits=8, **options):
    kernel = np.asarray(kernel, np.float32)
    bias = np.zeros(len(kernel), np.float32) if bias is None else np.asarray(bias, np.float32)
    return quantize_weights(dense(len(kernel)), kernel, bias, x, y, bits, **options)


def squared_error(kernel, weight):
    return ((dequantize_kernel(dense(len(kernel)), weight).astype(np.float64) - kernel) ** 2).sum(axis=1)


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_rows_by_channel_are_the_weights_of_that_channel_and_back(kind):
    layer, shape, kernel = layer_and_kernel(kind, np.random.default_rng(0))
    rows = by_channel(layer, kernel)
    np.testing.assert_array_equal(from_channels(layer, rows, kernel.shape), kernel)
    x = np.random.default_rng(1).normal(size=(1, *shape))
    axis = -1 if kind.startswith("dense") else 1
    everything = np.moveaxis(linear_sums(layer, x, kernel.astype(np.float64)), axis, 0)
    for channel in range(len(rows)):
        alone = np.zeros_like(rows, np.float64)
        alone[channel] = rows[channel]
        sums = np.moveaxis(linear_sums(layer, x, from_channels(layer, alone, kernel.shape)), axis, 0)
        np.testing.assert_allclose(sums[channel], everything[channel])
        assert not np.delete(sums, channel, axis=0).any()


@pytest.mark.parametrize("kind", LINEAR_KINDS)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_every_kind_restores_its_kernel_to_half_a_step(kind, bits):
    layer, _, kernel = layer_and_kernel(kind, np.random.default_rng(2))
    bias = np.zeros(layer.shape[-1] if kind.startswith("dense") else layer.shape[0], np.float32)
    weight = quantize_weights(layer, kernel, bias, X, Y, bits, search=False)
    assert weight.kernel.shape == kernel.shape
    assert weight.kernel.dtype == (np.int16 if bits == 16 else np.int8)
    assert weight.scale.shape == bias.shape and weight.scale.dtype == np.float32
    error = by_channel(layer, np.abs(dequantize_kernel(layer, weight) - kernel)).max(axis=1)
    assert (error <= weight.scale * (0.5 + 1e-2)).all()


@given(SEEDS, BITS, st.booleans(), st.booleans())
@settings(max_examples=50)
def test_integers_stay_in_range_and_the_search_is_never_worse(seed, bits, per_layer, heavy_tails):
    rng = np.random.default_rng(seed)
    kernel = (rng.standard_t(2, (5, 24)) if heavy_tails else rng.normal(0, 1, (5, 24))).astype(np.float32)
    plain = quantized(kernel, bits=bits, per_layer=per_layer, search=False)
    searched = quantized(kernel, bits=bits, per_layer=per_layer)
    for weight in (plain, searched):
        assert np.abs(weight.kernel.astype(int)).max() <= weight_max(bits)
        assert not per_layer or len(set(weight.scale.tolist())) == 1
    before, after = squared_error(kernel, plain), squared_error(kernel, searched)
    if per_layer:
        before, after = before.sum(), after.sum()
    assert (after <= before * (1 + 1e-4)).all()


def test_the_search_clips_an_outlier_at_4_bits():
    kernel = np.random.default_rng(3).normal(0, 1, (1, 400)).astype(np.float32)
    kernel[0, 0] = 5
    assert squared_error(kernel, quantized(kernel, bits=4)) < 0.8 * squared_error(
        kernel, quantized(kernel, bits=4, search=False)
    )


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-38])
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("search", [False, True])
def test_a_channel_without_weights_is_its_bias(size, per_layer, search):
    kernel = np.full((2, 3), size, np.float32)
    bias = np.array([1.5, -0.3], np.float32)
    weight = quantized(kernel, bias, per_layer=per_layer, search=search)
    assert np.isfinite(weight.scale).all() and (weight.scale >= np.finfo(np.float32).tiny).all()
    real = weight.bias * weight.scale.astype(np.float64) * float(X.scale)
    np.testing.assert_allclose(real, bias, atol=float(Y.scale) / 100)


def test_a_dead_channel_leaves_the_others_alone():
    kernel = np.random.default_rng(4).normal(0, 1, (3, 8)).astype(np.float32)
    kernel[1] = 0
    weight = quantized(kernel)
    assert not weight.kernel[1].any()
    np.testing.assert_allclose(dequantize_kernel(dense(3), weight)[[0, 2]], kernel[[0, 2]], atol=0.02)


@given(
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.floats(-12, 3),
    st.floats(-12, 3),
    st.sampled_from([(8, 8), (8, 4), (16, 8)]),
)
@example(2.0**100, -12.0, -12.0, (8, 8))
@settings(max_examples=50)
def test_no_bias_overflows_the_accumulator(bias, weight_exponent, x_exponent, bits):
    x_bits, weight_bits = bits
    x = TensorQuant(np.float32(10**x_exponent), 3, x_bits)
    kernel = np.random.default_rng(5).normal(0, 10**weight_exponent, (2, 64)).astype(np.float32)
    biases = np.array([bias, 0], np.float32)
    weight = quantized(kernel, biases, x=x, y=TensorQuant(np.float32(1e25), 0, 8), bits=weight_bits)
    layer = dense(2)
    graph = Graph("g", (Input(name="x", inputs=(), shape=(64,)), layer), ("y",))
    y = TensorQuant(np.float32(1e25), 0, 8)
    constants = layer_constants(graph, layer, {}, Quantization({"x": x, "y": y}, {"y": weight}))
    assert constants.accumulator_bits == (32 if x_bits == 8 else 64)
    step = weight.scale.astype(np.float64) * float(x.scale)
    assert (np.abs(weight.bias * step - biases) <= step * 0.51 + np.abs(biases) * 1e-9).all()
