"""Pools and resizes in C."""

from __future__ import annotations

from typing import Any

import numpy as np

from mz.compiler.emitters.c99.part import Context, Part, output_range
from mz.emulator.constants import AverageConstants, BilinearConstants, MoveConstants, NearestConstants
from mz.graph import AvgPool, GlobalAvgPool, MaxPool


def maximum(context: Context, c: MoveConstants) -> Part:
    part = Part(context)
    part.call("mz_max_pool", "mz_pool", "layer", _geometry(context), "{x0}", "{y}")
    return part


def average(context: Context, c: AverageConstants) -> Part:
    part = Part(context)
    fields = _geometry(context) | {
        "zero_in": c.zero_in,
        "by_pixel": int(c.multiplier.ndim > 0),
        "multiplier": part.constant("multiplier", np.atleast_1d(c.multiplier).astype(np.float32)),
        "range": output_range(c.low, c.high, c.zero_out),
    }
    part.call("mz_mean_pool", "mz_pool", "layer", fields, "{x0}", "{y}")
    return part


def _geometry(context: Context) -> dict[str, Any]:
    layer = context.layer
    (channels, rows, columns), (_, out_rows, out_columns) = context.shapes[0], layer.shape
    if isinstance(layer, GlobalAvgPool):
        kernel, window_strides, pads = (rows, columns), (1, 1), (0, 0, 0, 0)
    else:
        assert isinstance(layer, MaxPool | AvgPool)
        kernel, window_strides, pads = layer.kernel_shape, layer.strides, layer.pads
    dilations = layer.dilations if isinstance(layer, MaxPool) else (1, 1)
    return {
        "channels": channels,
        "in_rows": rows,
        "in_columns": columns,
        "out_rows": out_rows,
        "out_columns": out_columns,
        "kernel_rows": kernel[0],
        "kernel_columns": kernel[1],
        "stride_rows": window_strides[0],
        "stride_columns": window_strides[1],
        "dilation_rows": dilations[0],
        "dilation_columns": dilations[1],
        "top": pads[0],
        "left": pads[1],
        "in_bits": context.inputs[0].bits,
        "out_bits": context.tensor.bits,
    }


def resize(context: Context, c: NearestConstants | BilinearConstants) -> Part:
    part = Part(context)
    channels, out_rows, out_columns = context.layer.shape
    fields: dict[str, Any] = {
        "channels": channels,
        "in_columns": context.shapes[0][2],
        "out_rows": out_rows,
        "out_columns": out_columns,
        "bits": context.tensor.bits,
    }
    if isinstance(c, NearestConstants):
        for key, places in (("rows", c.rows), ("columns", c.columns)):
            fields[key] = part.constant(key, places.astype(np.int32))
        part.call("mz_resize_nearest", "mz_resize", "layer", fields, "{x0}", "{y}")
        return part
    fields["fraction_bits"] = c.fraction_bits
    for key, weights in (("row", c.rows), ("column", c.columns)):
        places, shares = two_taps(weights)
        fields[f"{key}s"] = part.constant(f"{key}s", places)
        fields[f"{key}_weights"] = part.constant(f"{key}_weights", shares)
    part.call("mz_resize_bilinear", "mz_resize", "layer", fields, "{x0}", "{y}")
    return part


def two_taps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[OUT, IN], at most two of a row not zero -> the two places and their weights, int32 [OUT, 2] each."""
    places = np.zeros((len(weights), 2), np.int32)
    shares = np.zeros((len(weights), 2), np.int32)
    for index, row in enumerate(weights):
        (found,) = np.nonzero(row)
        assert 1 <= len(found) <= 2
        places[index] = found[0], found[-1]
        shares[index] = row[found[0]], row[found[1]] if len(found) > 1 else 0
    return places, shares
