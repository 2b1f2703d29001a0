"""Sums of products of linear layers, before bias and requantization, in whatever float type the caller proves enough.

On integers in float32 or float64 they are exact as long as every partial sum stays below 2^24 or 2^53.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mz.graph.layers import Conv, Deconv, Dense, Pads, Weighted

Array = np.ndarray

_COLUMNS_BYTES = 4 << 20
"""What the unfolded windows of a few images may take at once; more only costs cache misses."""


def linear_sums(layer: Weighted, x: Array, kernel: Array) -> Array:
    """sum x w of one layer: x [N, *input shape] centred (0 is the padding), kernel in the layer's layout,
    one float type.
    """
    if isinstance(layer, Dense):
        return np.asarray(x @ kernel.T)
    if isinstance(layer, Deconv):
        return _deconv_sums(layer, x, kernel)
    assert isinstance(layer, Conv)
    return _correlate(pad_map(x, layer.pads, 0), kernel, layer.strides, layer.dilations, layer.groups)


def _deconv_sums(layer: Deconv, x: Array, kernel: Array) -> Array:
    """A transposed convolution is a convolution of the input, spread out by zeros, with the flipped kernel; without
    dilation one of the input itself for each phase of the output, with every so-many-th tap: no zero is multiplied.
    """
    if layer.dilations != (1, 1):
        return _correlate(
            spread_map(layer, x), _flipped(layer, kernel), (1, 1), layer.dilations, layer.groups
        )
    out = np.zeros((len(x), *layer.shape), x.dtype)
    for phase in np.ndindex(layer.strides):
        taps = kernel[:, :, phase[0] :: layer.strides[0], phase[1] :: layer.strides[1]]
        if taps.size:
            rows, columns = (_phase(layer, axis, phase[axis], taps.shape[2 + axis]) for axis in (0, 1))
            if rows.made and columns.made:
                sums = _correlate(
                    _read(x, rows, columns), _flipped(layer, taps), (1, 1), (1, 1), layer.groups
                )
                out[:, :, rows.first :: layer.strides[0], columns.first :: layer.strides[1]] = sums
    return out


class _Phase(NamedTuple):
    """Along one axis, every so-many-th output from `first` on, `made` in all, and what they read of the input: from
    `start` (which may lie before it) to before `stop`.
    """

    first: int
    made: int
    start: int
    stop: int


def _phase(layer: Deconv, axis: int, phase: int, taps: int) -> _Phase:
    stride, before = layer.strides[axis], layer.pads[axis]
    first = (phase - before) % stride
    made = len(range(first, layer.shape[1 + axis], stride))
    reads = (first + before) // stride
    return _Phase(first, made, reads - taps + 1, reads + made)


def _read(x: Array, rows: _Phase, columns: _Phase) -> Array:
    """What a phase reads of `x` [N, C, H, W], with zeros where that ends."""
    (top, bottom, inner_rows), (left, right, inner_columns) = (
        (max(-part.start, 0), max(part.stop - size, 0), slice(max(part.start, 0), min(part.stop, size)))
        for part, size in zip((rows, columns), x.shape[2:], strict=True)
    )
    return pad_map(x[:, :, inner_rows, inner_columns], (top, left, bottom, right), 0)


def _flipped(layer: Deconv, kernel: Array) -> Array:
    """The kernel [I, O/groups, kh, kw] of a transposed convolution as that of a convolution [O, I/groups, kh, kw]."""
    in_channels, group_out, kh, kw = kernel.shape
    flipped = kernel.reshape(layer.groups, in_channels // layer.groups, group_out, kh, kw)[..., ::-1, ::-1]
    flipped = flipped.transpose(0, 2, 1, 3, 4)
    return flipped.reshape(layer.groups * group_out, in_channels // layer.groups, kh, kw)


def spread_map(layer: Deconv, x: Array, zero: int = 0) -> Array:
    """`x` [N, C, H, W] with zeros between and around: each of its windows, one step apart, makes one output.

    zero: what stands for 0 in `x`.
    """
    n, channels, height, width = x.shape
    size = ((height - 1) * layer.strides[0] + 1, (width - 1) * layer.strides[1] + 1)
    spread = np.full((n, channels, *size), zero, x.dtype)
    spread[:, :, :: layer.strides[0], :: layer.strides[1]] = x
    rows, columns = ((k - 1) * d for k, d in zip(layer.kernel_shape, layer.dilations, strict=True))
    top, left, bottom, right = layer.pads
    spread = pad_map(
        spread, (rows, columns, rows + layer.output_padding[0], columns + layer.output_padding[1]), zero
    )
    return spread[:, :, top : spread.shape[2] - bottom, left : spread.shape[3] - right]


def pad_map(x: Array, pads: Pads, value: float) -> Array:
    """`x` [N, C, H, W] with `value` around its rows and columns."""
    top, left, bottom, right = pads
    if not any(pads):
        return x
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def windows(x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]) -> Array:
    """A view [N, C, OH, OW, kh, kw] of all windows of padded `x` [N, C, H, W]."""
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, span, axis=(2, 3))
    return view[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def _correlate(
    x: Array, kernel: Array, strides: tuple[int, int], dilations: tuple[int, int], groups: int
) -> Array:
    """Exact sums of products: x [N, C, H, W] already padded, kernel [O, C/groups, kh, kw], one float type ->
    [N, O, OH, OW].
    """
    n, channels = x.shape[:2]
    out_channels, group_channels, kh, kw = kernel.shape
    if group_channels == 1 and out_channels == channels:
        return _correlate_depthwise(x, kernel[:, 0], strides, dilations)
    weights = kernel.reshape(groups, out_channels // groups, group_channels * kh * kw)
    if (kh, kw) == (1, 1):
        if strides != (1, 1):
            x = np.ascontiguousarray(x[:, :, :: strides[0], :: strides[1]])
        oh, ow = x.shape[2:]
        return np.matmul(weights, x.reshape(n, groups, group_channels, oh * ow)).reshape(
            n, out_channels, oh, ow
        )
    view = windows(x, (kh, kw), strides, dilations)
    oh, ow = view.shape[2:4]
    out = np.empty((n, groups, out_channels // groups, oh * ow), x.dtype)
    step = max(1, _COLUMNS_BYTES // max(1, x.itemsize * channels * kh * kw * oh * ow))
    for start in range(0, n, step):
        columns = view[start : start + step].transpose(0, 1, 4, 5, 2, 3)
        columns = columns.reshape(len(columns), groups, group_channels * kh * kw, oh * ow)
        np.matmul(weights, columns, out=out[start : start + step])
    return out.reshape(n, out_channels, oh, ow)


def _correlate_depthwise(
    x: Array, kernel: Array, strides: tuple[int, int], dilations: tuple[int, int]
) -> Array:
    """Tap by tap over one image, whose sums stay in the cache; the longer of channels and rows is the inner axis."""
    kh, kw = kernel.shape[1:]
    n, channels, height, width = x.shape
    oh = (height - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (width - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    channels_last = channels > ow
    shape = (oh, ow, channels) if channels_last else (channels, oh, ow)
    total, term = np.zeros((n, *shape), x.dtype), np.empty(shape, x.dtype)
    for image, sums in zip(x, total, strict=True):
        planes = np.ascontiguousarray(image.transpose(1, 2, 0)) if channels_last else image
        for i, j in np.ndindex(kh, kw):
            rows, columns = tap_slices((i, j), (oh, ow), strides, dilations)
            if channels_last:
                np.multiply(planes[rows, columns], kernel[:, i, j], out=term)
            else:
                np.multiply(planes[:, rows, columns], kernel[:, i, j, None, None], out=term)
            sums += term
    return total.transpose(0, 3, 1, 2) if channels_last else total


def tap_slices(
    tap: tuple[int, int], size: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of a padded map that one tap of a kernel reads for `size` outputs."""
    first = [t * dilation for t, dilation in zip(tap, dilations, strict=True)]
    rows, columns = (
        slice(start, start + (count - 1) * stride + 1, stride)
        for start, count, stride in zip(first, size, strides, strict=True)
    )
    return rows, columns
