"""Patches are what each output channel's weights are multiplied with."""

from __future__ import annotations

import numpy as np
import pytest
from tests.quantize.networks import LINEAR_KINDS, layer_and_kernel
from threadpoolctl import threadpool_limits

from mz.emulator.linear import linear_sums
from mz.graph import Conv, Dense
from mz.quantize import covariance
from mz.quantize.covariance import centred, correlation, patches, sample_places, second_moments
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import FewSamples, inputs_of
from mz.quantize.weights import by_channel, from_channels


def naive_patches(layer, x: np.ndarray) -> np.ndarray:
    """[groups, samples, weights of one channel] by loops over images, rows, columns, channels and taps."""
    n, channels, height, width = x.shape
    _, out_height, out_width = layer.shape
    group_in = channels // layer.groups
    kh, kw = layer.kernel_shape
    found = np.zeros((layer.groups, n, out_height, out_width, group_in, kh, kw))
    for g, image, i, j, c, u, v in np.ndindex(*found.shape):
        row = i * layer.strides[0] + u * layer.dilations[0] - layer.pads[0]
        column = j * layer.strides[1] + v * layer.dilations[1] - layer.pads[1]
        if 0 <= row < height and 0 <= column < width:
            found[g, image, i, j, c, u, v] = x[image, g * group_in + c, row, column]
    return found.reshape(layer.groups, n * out_height * out_width, -1)


def case(kind: str, count: int = 2):
    layer, shape, kernel = layer_and_kernel(kind, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(-128, 128, (count, *shape)).astype(np.int32)
    return layer, x, kernel


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise", "multiplied"])
def test_all_patches_of_a_convolution(kind):
    layer, x, kernel = case(kind)
    found = patches(layer, x, np.random.default_rng(0))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, naive_patches(layer, x))
    rows = by_channel(layer, kernel).astype(np.float64).reshape(layer.groups, -1, found.shape[2])
    products = np.einsum("gpk,gok->gop", found, rows).reshape(layer.shape[0], len(x), *layer.shape[1:])
    sums = linear_sums(layer, x.astype(np.float64), kernel.astype(np.float64))
    np.testing.assert_allclose(products.transpose(1, 0, 2, 3), sums, atol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "dense_rows"])
def test_patches_of_a_dense_layer_are_its_rows(kind):
    layer, x, _ = case(kind)
    np.testing.assert_array_equal(patches(layer, x, np.random.default_rng(0))[0], x.reshape(-1, x.shape[-1]))


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_what_stands_for_0_is_taken_from_the_values_and_not_from_padding(kind):
    layer, x, _ = case(kind)
    found = patches(layer, (x + 128).astype(np.uint8), np.random.default_rng(0), zero=128)
    np.testing.assert_array_equal(found, patches(layer, x, np.random.default_rng(0)))


@pytest.mark.parametrize("kind", ["deconv", "deconv_groups"])
def test_all_patches_of_a_transposed_convolution(kind):
    """By its definition: input [i, j] with tap [u, v] goes to output [i s + u d - p, j s + v d - p]."""
    layer, x, kernel = case(kind)
    n, channels = x.shape[:2]
    _, out_height, out_width = layer.shape
    kh, kw = layer.kernel_shape
    wanted = np.zeros((layer.groups, n, out_height, out_width, channels // layer.groups, kh, kw))
    for image, c, i, j, u, v in np.ndindex(*x.shape, kh, kw):
        row = i * layer.strides[0] + u * layer.dilations[0] - layer.pads[0]
        column = j * layer.strides[1] + v * layer.dilations[1] - layer.pads[1]
        if 0 <= row < out_height and 0 <= column < out_width:
            group, inside = divmod(c, channels // layer.groups)
            wanted[group, image, row, column, inside, u, v] = x[image, c, i, j]
    found = patches(layer, x, np.random.default_rng(0))
    np.testing.assert_array_equal(found, wanted.reshape(layer.groups, n * out_height * out_width, -1))
    rows = by_channel(layer, kernel).astype(np.float64).reshape(layer.groups, -1, found.shape[2])
    products = np.einsum("gpk,gok->gop", found, rows).reshape(layer.shape[0], len(x), *layer.shape[1:])
    sums = linear_sums(layer, x.astype(np.float64), kernel.astype(np.float64))
    np.testing.assert_allclose(products.transpose(1, 0, 2, 3), sums, atol=1e-9)


@pytest.mark.parametrize("kind", ["deconv", "deconv_groups"])
def test_phases_of_a_transposed_convolution_do_not_mix(kind):
    """Taps that no output sees together have no second moment: each phase of the stride is rounded by itself."""
    layer, x, _ = case(kind, 4)
    moments = second_moments(patches(layer, x, np.random.default_rng(0)))
    taps = np.array(list(np.ndindex(*layer.kernel_shape)))
    phase = taps % np.array(layer.strides)
    apart = (phase[:, None] != phase[None]).any(axis=2)
    inputs = x.shape[1] // layer.groups
    assert apart.any()
    assert (moments[:, np.tile(apart, (inputs, inputs))] == 0).all()


@pytest.mark.parametrize("kind", ["grouped", "dense"])
def test_a_sample_takes_positions_once_and_the_same_in_every_channel(kind, monkeypatch):
    layer, x, _ = case(kind, 8)
    everything = patches(layer, x, np.random.default_rng(0))
    few = max(8, everything.shape[2])
    monkeypatch.setattr(covariance, "_sample_count", lambda *_: few)
    found = patches(layer, x, np.random.default_rng(3))
    where = {
        row.tobytes(): index for index, row in enumerate(np.ascontiguousarray(everything.transpose(1, 0, 2)))
    }
    taken = [where[row.tobytes()] for row in np.ascontiguousarray(found.transpose(1, 0, 2))]
    assert len(taken) == len(set(taken)) == min(few, everything.shape[1])
    np.testing.assert_array_equal(patches(layer, x, np.random.default_rng(3)), found)


def test_sample_counts_are_bounded_in_memory_and_no_more_than_few_for_wide_layers():
    assert covariance._sample_count(9, 9 * 32) == 4096
    assert covariance._sample_count(4608, 4608) == 10922
    assert covariance._sample_count(1000, 1000) == 8000
    assert 4 * 4608 * covariance._sample_count(4608, 4608) <= 192 << 20
    assert covariance._sample_count(8192, 64 * 8192) == 8192
    assert covariance._sample_count(9000, 9000) == 2048
    assert 4 * 30_000 * covariance._sample_count(30_000, 30_000) <= 192 << 20
    assert covariance._sample_count(9, 9 * 32, phases=4) == 4 * 4096


def test_second_moments():
    samples = np.random.default_rng(0).integers(-255, 256, (2, 500, 6)).astype(np.float32)
    wanted = np.stack([s.astype(np.float64).T @ s / 500 for s in samples])
    found = second_moments(samples)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-2)


def test_moments_are_the_same_in_blocks(monkeypatch):
    samples = np.random.default_rng(1).integers(-5, 6, (5, 40, 7)).astype(np.float32)
    whole = second_moments(samples)
    monkeypatch.setattr(covariance, "_GROUPS", 2)
    monkeypatch.setattr(covariance, "_ROWS", 3)
    np.testing.assert_array_equal(second_moments(samples), whole)
    wanted = [np.cov(one.T, bias=True) for one in samples.astype(np.float64)]
    np.testing.assert_allclose(second_moments(centred(samples)), wanted, atol=1e-4)


def test_a_correlation_is_that_of_every_group_and_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    samples = rng.integers(-128, 128, (5, 40, 7)).astype(np.float32)
    others = rng.normal(0, 1, (5, 40, 3)).astype(np.float32)
    whole = correlation(samples, others)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(whole, np.einsum("gpk,gpo->gko", samples, others) / 40, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(covariance, "_GROUPS", 2)
    monkeypatch.setattr(covariance, "_ROWS", 3)
    np.testing.assert_allclose(correlation(samples, others), whole, rtol=1e-5, atol=1e-4)


def test_the_covariance_of_inputs_far_from_zero_is_that_about_their_mean():
    samples = np.random.default_rng(3).integers(200, 256, (2, 500, 6)).astype(np.float32)
    wanted = [np.cov(one.T, bias=True) for one in samples.astype(np.float64)]
    found = second_moments(centred(samples))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-2)
    assert (np.linalg.eigvalsh(found) > 0).all()


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_second_order_rounding_brings_the_layer_nearer_on_maps_that_vary_slowly(kind):
    """Four bits, images of sums along all axes: squared error of the layer's output, against rounding to nearest."""
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        layer, shape, kernel = layer_and_kernel(kind, rng)
        x = np.rint(sum(np.cumsum(rng.normal(0, 4, (400, *shape)), axis=a + 1) for a in range(len(shape))))
        rows = by_channel(layer, kernel).astype(np.float64)
        scale = np.abs(rows).max(axis=1) / 7
        samples = patches(layer, x, rng)
        grouped = rows.reshape(len(samples), -1, rows.shape[1])
        found = round_second_order(
            grouped, scale.reshape(grouped.shape[:2]), inputs_of(samples).factorize(), 7
        )
        errors = [
            linear_sums(layer, x, from_channels(layer, rows - scale[:, None] * q, kernel.shape))
            for q in (found.reshape(rows.shape), np.rint(rows / scale[:, None]))
        ]
        ratios.append(np.square(errors[0]).sum() / np.square(errors[1]).sum())
    assert np.mean(ratios) < 1


def test_few_samples_are_taken_of_a_wide_layer():
    """So few that no matrix of weights by weights is needed."""
    wide = Conv(name="c", inputs=("x",), shape=(4, 8, 8), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    places = sample_places(wide, (40, 1100, 8, 8), np.random.default_rng(0))
    assert len(places) == 2048 and 2 * len(places) <= 1100 * 9


def test_a_wide_dense_layer_is_rounded_by_what_it_multiplies():
    """Four bits, 9,000 inputs of rank 20 and noise: the output's squared error on other samples, against nearest."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(20, 9000))
    seen, others = (
        (rng.normal(size=(count, 20)) @ mixed + rng.normal(size=(count, 9000))).astype(np.float32)
        for count in (300, 200)
    )
    layer = Dense(name="d", inputs=("x",), shape=(3,))
    inputs = inputs_of(patches(layer, seen, rng))
    assert isinstance(inputs, FewSamples)
    rows = rng.normal(size=(1, 3, 9000))
    scale = np.abs(rows).max(axis=2) / 7
    with threadpool_limits(1, user_api="blas"):  # as in the walk
        found = round_second_order(rows, scale, inputs.factorize(), 7)
    errors = [
        np.square(others @ (rows - scale[:, :, None] * q)[0].T).sum()
        for q in (found, np.rint(rows / scale[:, :, None]))
    ]
    assert errors[0] < 0.5 * errors[1]
