"""Activation functions in C: tables, those over 16 bits folded."""

from __future__ import annotations

import math

from mz.compiler.emitters.c99.part import Context, Part
from mz.compiler.folding import table_arrays
from mz.emulator.constants import TableConstants


def table(context: Context, c: TableConstants) -> Part:
    """One table, or a choice of several for each channel."""
    part, shape = Part(context), context.layer.shape
    channels = 1 if c.choice is None else len(c.choice)
    if c.choice is None:
        outer, inner = 1, math.prod(shape)
    elif len(shape) == 3:
        outer, inner = shape[1] * shape[2], 1
    else:
        outer, inner = 1, math.prod(shape[1:])
    arrays = table_arrays(c, context.tensor.bits)
    fields: dict[str, object] = {
        "outer": outer,
        "channels": channels,
        "inner": inner,
        "in_bits": context.inputs[0].bits,
        "out_bits": context.tensor.bits,
    }
    names = {name: part.constant(name, array) for name, array in arrays.items()}
    fields["table"] = names.pop("rest" if "lines" in arrays else "table")
    if "lines" in arrays:
        entries = c.table.shape[1] // arrays["lines"].shape[1]
        fields["block_bits"] = entries.bit_length() - 1
    part.call("mz_table_run", "mz_table", "layer", fields | names, "{x0}", "{y}")
    return part
