"""Second moments of what a linear layer multiplies: the patches of its quantized input, sampled at random positions."""

from __future__ import annotations

import math

import numpy as np

from mz.emulator.linear import pad_map, spread_map
from mz.graph import Conv, Deconv, Dense, Weighted
from mz.threads import side_by_side

WIDEST_MOMENTS = 8192
"""Of more weights a channel there are no second moments K x K: so few samples are taken that nobody needs them."""

_SAMPLES_PER_WEIGHT = 8
_FEWEST_SAMPLES = 4096
_SAMPLES_OF_WIDE = 2048
_LEAST_DAMPING = 0.01
_MOST_BYTES = 192 << 20
_GROUPS, _ROWS = 64, 256
"""How many groups, and how many rows of their moments, are computed at a time: whatever the number of processors is."""


def patches(layer: Weighted, x: np.ndarray, rng: np.random.Generator, zero: int = 0) -> np.ndarray:
    """Patches of input integers `x` [N, *shape], less `zero`, as float32 [groups, samples, weights of one channel].

    The same positions are taken in every channel.
    """
    return patches_at(layer, x, sample_places(layer, x.shape, rng), zero)


def sample_places(layer: Weighted, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Some of the places of a layer's output for an input of `shape` (batch in front), rising, int64."""
    phases = 1
    if isinstance(layer, Dense):
        total, size, groups = math.prod(shape[:-1]), shape[-1], 1
    else:
        assert isinstance(layer, Conv | Deconv)
        total = shape[0] * math.prod(layer.shape[1:])
        size, groups = shape[1] // layer.groups * math.prod(layer.kernel_shape), layer.groups
        if isinstance(layer, Deconv):  # an output sees one tap in so many
            phases = math.prod(layer.strides)
    count = min(total, _sample_count(size, size * groups, phases))
    return np.arange(total) if count == total else np.sort(rng.choice(total, count, replace=False))


def at_places(layer: Weighted, tensor: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A tensor of the layer's output shape [N, *shape] -> its channels at these places, [P, O]."""
    if isinstance(layer, Dense):
        return tensor.reshape(-1, tensor.shape[-1])[places]
    image, row, column = np.unravel_index(places, (len(tensor), *layer.shape[1:]))
    return tensor[image, :, row, column]


def patches_at(
    layer: Weighted, x: np.ndarray, places: np.ndarray, zero: int = 0, threads: int = 0
) -> np.ndarray:
    """What the layer multiplies at `places` of its output: float32 [groups, places, weights of one output channel].

    zero: what stands for 0 in `x`, and is taken from it. A transposed convolution multiplies zeros with the taps that
    do not reach a place. threads: images at a time, as `side_by_side` has it.
    """
    if isinstance(layer, Dense):
        return x.reshape(-1, x.shape[-1])[places].astype(np.float32)[None] - np.float32(zero)
    assert isinstance(layer, Conv | Deconv)
    n, channels = x.shape[:2]
    taps, in_group = math.prod(layer.kernel_shape), channels // layer.groups
    image, row, column = np.unravel_index(places, (n, *layer.shape[1:]))
    taken = np.empty((layer.groups, len(places), in_group, taps), np.float32)
    seen, reached = _tap_places(layer, row, column, x.shape[2:])

    def take(one: int) -> None:
        mine = slice(*np.searchsorted(image, (one, one + 1)))
        found = x[one].reshape(channels, -1).take(seen[mine].reshape(-1), axis=1, mode="clip")
        found = found.astype(np.float32, copy=False)
        found -= np.float32(zero)
        if not reached[mine].all():
            found[:, ~reached[mine].reshape(-1)] = 0
        taken[:, mine] = found.reshape(layer.groups, in_group, -1, taps).transpose(0, 2, 1, 3)

    side_by_side(take, range(n), threads)
    return taken.reshape(layer.groups, len(places), -1)


def whole_map(layer: Conv | Deconv, x: np.ndarray, zero: int) -> np.ndarray:
    """What the kernel's taps meet in `x` [1, C, H, W], in which `zero` stands for 0, with its padding."""
    return spread_map(layer, x, zero) if isinstance(layer, Deconv) else pad_map(x, layer.pads, zero)


def kernel_taps(layer: Conv | Deconv) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Row and column of each of the kernel's taps on its whole map, before dilation, int64 [kh * kw] each, and the
    strides there. A transposed kernel runs backwards over its spread map, a step at a time.
    """
    i, j = (taps.reshape(-1) for taps in np.indices(layer.kernel_shape))
    return (i[::-1], j[::-1], (1, 1)) if isinstance(layer, Deconv) else (i, j, layer.strides)


def _tap_places(
    layer: Conv | Deconv, row: np.ndarray, column: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where in one channel of the input [H, W] each tap of the kernel looks from these outputs, int64 [P, kh * kw], and
    whether it finds anything there: bool, False for padding and between the values of a spread map.
    """
    rows, columns, strides = kernel_taps(layer)
    transposed, index, reached = isinstance(layer, Deconv), np.int64(0), np.bool_(True)
    for axis, (start, taps) in enumerate(((row, rows), (column, columns))):
        dilation, before = layer.dilations[axis], layer.pads[axis]
        if transposed:
            before = (layer.kernel_shape[axis] - 1) * dilation - before
        at = start[:, None] * strides[axis] + taps * dilation - before
        if transposed:
            at, between = np.divmod(at, layer.strides[axis])
            reached = reached & (between == 0)
        reached = reached & (at >= 0) & (at < shape[axis])
        index = index * shape[axis] + at
    return np.asarray(index), np.asarray(reached)


def second_moments(samples: np.ndarray) -> np.ndarray:
    """X^T X / samples of each group: [G, P, K] -> float64 [G, K, K]. Integer inputs make the float32 product
    near exact.
    """
    groups, count, size = samples.shape
    found = np.empty((groups, size, size))

    def multiply(block: tuple[slice, slice]) -> None:
        """Of a symmetric matrix only what lies right of the diagonal blocks is computed."""
        of, rows = block
        rest = slice(rows.start, size)
        part = np.matmul(samples[of, :, rows].transpose(0, 2, 1), samples[of, :, rest])
        found[of, rows, rest] = part
        found[of, rest, rows] = part.transpose(0, 2, 1)

    side_by_side(multiply, _blocks(groups, size))
    found /= count
    return found


def correlation(samples: np.ndarray, others: np.ndarray) -> np.ndarray:
    """X^T Y / samples of each group: [G, P, K], [G, P, O] -> float64 [G, K, O]."""
    groups, count, size = samples.shape
    found = np.empty((groups, size, others.shape[2]))

    def multiply(block: tuple[slice, slice]) -> None:
        of, rows = block
        found[of, rows] = np.matmul(samples[of, :, rows].transpose(0, 2, 1), others[of])

    side_by_side(multiply, _blocks(groups, size))
    found /= count
    return found


def centred(samples: np.ndarray) -> np.ndarray:
    """[G, P, K] about their mean over P, in place: there can be hundreds of megabytes of them. Second moments of these
    are what is left of an error once the bias takes its mean back.
    """

    def centre(block: tuple[slice, slice]) -> None:
        of, columns = block
        part = samples[of, :, columns]
        part -= part.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)

    groups, _, size = samples.shape
    side_by_side(centre, _blocks(groups, size))
    return samples


def damped(moments: np.ndarray, share: float) -> np.ndarray:
    """Moments [G, K, K] that have an inverse: to each diagonal the damping of its mean is added."""
    mean = np.diagonal(moments, axis1=1, axis2=2).mean(axis=1, keepdims=True)
    found = moments.astype(np.float64)
    index = np.arange(moments.shape[1])
    found[:, index, index] += damping(mean, share)
    return found


def chance(count: int, size: int) -> float:
    """By which share of the mean of their diagonal second moments [K, K] of so many samples are to be damped.

    The fewer samples there are of a weight, the more of X^T X is chance: trusted, it fits and rounds worse for other
    images than doing nothing (docs/quantization-evidence.md, section 6; docs/full-precision-evidence.md, section 5).
    """
    return max(_LEAST_DAMPING, size / count)


def damping(mean: np.ndarray, share: float) -> np.ndarray:
    """This share of the mean of a diagonal, 1 where that is 0."""
    return np.where(mean > 0, share * mean, 1.0)


def _blocks(groups: int, size: int) -> list[tuple[slice, slice]]:
    """Some groups and some of the `size` columns at a time."""
    return [
        (slice(group, group + _GROUPS), slice(start, start + _ROWS))
        for group in range(0, groups, _GROUPS)
        for start in range(0, size, _ROWS)
    ]


def _sample_count(size: int, row_values: int, phases: int = 1) -> int:
    most = _MOST_BYTES // (4 * row_values)
    if size > WIDEST_MOMENTS:
        return min(_SAMPLES_OF_WIDE, most)
    wanted = phases * max(_FEWEST_SAMPLES, _SAMPLES_PER_WEIGHT * size)
    return max(size, min(wanted, most))
