"""Patches are what each output channel's weights are multiplied with."""

from __future__ import annotations

import numpy as np
import pytest
from tests.quantize.networks import layer_and_kernel

from mz.emulator.linear import linear_sums
from mz.quantize import covariance
from mz.quantize.covariance import covariance as covariance_of
from mz.quantize.covariance import patches, second_moments
from mz.quantize.weights import by_channel


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


def test_a_transposed_convolution_has_none():
    layer, x, _ = case("deconv")
    assert patches(layer, x, np.random.default_rng(0)) is None


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


def test_sample_counts_are_bounded_in_memory_but_never_below_one_a_weight():
    assert covariance._sample_count(9, 9 * 32) == 4096
    assert covariance._sample_count(4608, 4608) == 10922
    assert covariance._sample_count(1000, 1000) == 8000
    assert 4 * 4608 * covariance._sample_count(4608, 4608) <= 192 << 20
    assert covariance._sample_count(30_000, 30_000) == 30_000


def test_second_moments():
    samples = np.random.default_rng(0).integers(-255, 256, (2, 500, 6)).astype(np.float32)
    wanted = np.stack([s.astype(np.float64).T @ s / 500 for s in samples])
    found = second_moments(samples)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-2)


def test_the_covariance_of_inputs_far_from_zero_is_that_about_their_mean():
    samples = np.random.default_rng(3).integers(200, 256, (2, 500, 6)).astype(np.float32)
    wanted = [np.cov(one.T, bias=True) for one in samples.astype(np.float64)]
    np.testing.assert_allclose(covariance_of(samples), wanted, rtol=1e-4, atol=1e-2)
    assert (np.linalg.eigvalsh(covariance_of(samples)) > 0).all()
