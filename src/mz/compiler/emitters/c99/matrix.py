"""Products of two tensors as matrices in C: strides, tiles, scratch."""

from __future__ import annotations

from typing import Any

from mz.compiler.emitters.c99.layout import merged, storage_bytes, strides
from mz.compiler.emitters.c99.linear import CHANNELS
from mz.compiler.emitters.c99.part import Context, Part, output_range
from mz.emulator.constants import MatrixConstants
from mz.emulator.numerics import INT32_LIMIT
from mz.graph import TensorQuant

_PANELS_BYTES = 48 << 10
"""What prepared columns may take, if that is sixteen columns at least: rows are gathered again for each such tile."""
_ROWS_BYTES = 16 << 10
"""What gathered rows may take, or those that are read where they lie: they stay in the nearest cache."""


def multiply(context: Context, c: MatrixConstants) -> Part:
    part, (a, b) = Part(context), context.inputs
    geometry = _geometry(context)
    rows, inner, columns = (geometry[key] for key in ("rows", "inner", "columns"))
    row, column = (-(-inner // 4) * 4 * storage_bytes(tensor.bits) for tensor in (a, b))
    tile_rows = min(rows, max(_ROWS_BYTES // row // 4 * 4, 4))
    tile_columns = _even_tile(columns, max(_PANELS_BYTES // column, CHANNELS))
    direct = a.bits <= 8 and geometry["a_inner"] == 1 and inner % 4 == 0
    terms = 8 * (tile_rows + tile_columns)
    part.scratch = terms + tile_columns * column + (0 if direct else tile_rows * row)
    fields = geometry | {
        "zero_a": c.zero_a,
        "zero_b": c.zero_b,
        "a_bits": a.bits,
        "b_bits": b.bits,
        "out_bits": context.tensor.bits,
        "wide": int(max(a.bits, b.bits) > 8 or _reach(inner, a, b) >= INT32_LIMIT),
        "tile_rows": tile_rows,
        "tile_columns": tile_columns,
        "direct": int(direct),
        "multiplier": float(c.multiplier),
        "range": output_range(c.low, c.high, c.zero_out),
    }
    part.call("mz_matmul_run", "mz_matmul", "layer", fields, "{x0}", "{x1}", "{y}", "{s}")
    return part


def _geometry(context: Context) -> dict[str, Any]:
    (shape_a, shape_b), shape = context.shapes, context.layer.shape
    a, b, y = (strides(one) for one in (shape_a, shape_b, shape))
    around = [(1, 0, 0, 0)]
    for axis, size in enumerate(shape[:-2]):
        around.append((size, a[axis] * (shape_a[axis] > 1), b[axis] * (shape_b[axis] > 1), y[axis]))
    loops = merged(around)
    sizes, steps_a, steps_b, steps_y = zip(*loops, strict=True)
    return {
        "rank": len(loops),
        "size": sizes,
        "a": steps_a,
        "b": steps_b,
        "y": steps_y,
        "rows": shape[-2],
        "inner": shape_a[-1],
        "columns": shape[-1],
        "a_row": a[-2],
        "a_inner": a[-1],
        "b_inner": b[-2],
        "b_column": b[-1],
        "y_row": y[-2],
        "y_column": y[-1],
    }


def _reach(inner: int, a: TensorQuant, b: TensorQuant) -> int:
    """What no sum of bytes in mz_matmul.c exceeds on its way: a column's term, a row's, and the products."""
    column = a.zero_point * b.reach
    return inner * (column + a.q_max * abs(128 - b.zero_point) + a.q_max * 128)


def _even_tile(size: int, most: int) -> int:
    """Columns at a time, in sixteens: as few tiles as `most` allows, all about as large."""
    panels = -(-size // CHANNELS)
    tiles = -(-panels // (most // CHANNELS))
    return -(-panels // tiles) * CHANNELS
