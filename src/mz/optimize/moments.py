"""Means and covariances of what the layers of the float network multiply, gathered over calibration images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.graph import Conv, Deconv, Dense, Graph, Params, Weighted
from mz.quantize import image_bytes, in_chunks
from mz.quantize.covariance import WIDEST_MOMENTS, patches_at, sample_places


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a layer's K weights an output channel, in the kernel's order. mean: float64 [K]; covariance: [K, K]; count: of
    samples.

    Where patches overlap in the output (Deconv) or K is too large for K x K, inputs count as independent of each other
    and the covariance is [K], its diagonal.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def input_moments(
    graph: Graph,
    params: Params,
    layers: list[Weighted],
    images: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, Moments]:
    """By layer name. layers: with groups = 1. images: float32 [N, *shape] by Input layer."""
    session = FloatSession(graph, params, taps=[layer.inputs[0] for layer in layers])
    sums: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for part in in_chunks(images, image_bytes(graph)):
        found = session.run(part)
        for layer in layers:
            new = _sums(layer, found[layer.inputs[0]], rng)
            old = sums.get(layer.name)
            sums[layer.name] = new if old is None else (old[0] + new[0], old[1] + new[1], old[2] + new[2])
    moments = {}
    for name, (total, square, count) in sums.items():
        mean, second = total / count, square / count
        product = mean * mean if second.ndim == 1 else np.outer(mean, mean)
        moments[name] = Moments(mean, second - product, count)
    return moments


def _sums(layer: Weighted, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    if has_patches(layer, x.shape):
        assert isinstance(layer, Conv | Dense)
        (samples,) = patches_at(layer, x, sample_places(layer, x.shape, rng))
        return (
            samples.sum(axis=0, dtype=np.float64),
            (samples.T @ samples).astype(np.float64),
            len(samples),
        )
    rows, taps = x.reshape(-1, x.shape[-1]), 1
    if isinstance(layer, Conv | Deconv):
        rows, taps = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]), math.prod(layer.kernel_shape)
    total, square = rows.sum(axis=0, dtype=np.float64), np.square(rows, dtype=np.float64).sum(axis=0)
    return np.repeat(total, taps), np.repeat(square, taps), len(rows)


def has_patches(layer: Weighted, shape: tuple[int, ...]) -> bool:
    """Whether the covariance of what the layer multiplies is taken. shape: of its input, batch in front."""
    if isinstance(layer, Dense):
        return shape[-1] <= WIDEST_MOMENTS
    if not isinstance(layer, Conv):
        return False
    return shape[1] // layer.groups * math.prod(layer.kernel_shape) <= WIDEST_MOMENTS
