"""Activation functions in C: tables, those over 16 bits folded."""

from __future__ import annotations

import math

import numpy as np

from mz.compiler.emitters.c99.part import Context, Part
from mz.compiler.folding import fold
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
    values = c.table.astype(np.uint16 if context.tensor.bits > 8 else np.uint8)
    fields: dict[str, object] = {
        "outer": outer,
        "channels": channels,
        "inner": inner,
        "in_bits": context.inputs[0].bits,
        "out_bits": context.tensor.bits,
    }
    folded = fold(values)
    if folded:
        entries = values.shape[1] // folded.lines.shape[1]
        fields |= {"table": part.constant("rest", folded.rest), "block_bits": entries.bit_length() - 1}
        fields["lines"] = part.constant("lines", folded.lines)
    else:
        fields["table"] = part.constant("table", values)
    if c.choice is not None:
        fields["choice"] = part.constant("choice", c.choice.astype(np.uint16))
    part.call("mz_table_run", "mz_table", "layer", fields, "{x0}", "{y}")
    return part
