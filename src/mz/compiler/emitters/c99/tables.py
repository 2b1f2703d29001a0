"""Activation functions in C: tables, those over 16 bits folded into lines and what is left beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mz.compiler.emitters.c99.part import Context, Part
from mz.emulator.constants import TableConstants

_FRACTION_BITS = 15
_BLOCK_BITS = range(4, 11)


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
    folded = fold(values) if context.inputs[0].bits > 8 else None
    if folded is not None and folded.bytes < values.nbytes:
        fields |= {"table": part.constant("rest", folded.rest), "block_bits": folded.block_bits}
        fields["lines"] = part.constant("lines", folded.lines)
    else:
        fields["table"] = part.constant("table", values)
    if c.choice is not None:
        fields["choice"] = part.constant("choice", c.choice.astype(np.uint16))
    part.call("mz_table_run", "mz_table", "layer", fields, "{x0}", "{y}")
    return part


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Tables without loss: entry i of block b is (lines[b, 0] + lines[b, 1] i) >> 15, plus the i-th number of
    lines[b, 3] bits that stands in `rest` from byte lines[b, 2] on, lowest bits first.

    lines: int32 [K blocks, 4]. rest: uint8 [bytes], three more than are used, as three are read at a time.
    block_bits: a block has 2^block_bits entries.
    """

    lines: np.ndarray
    rest: np.ndarray
    block_bits: int

    @property
    def bytes(self) -> int:
        return self.lines.nbytes + self.rest.nbytes


def fold(values: np.ndarray) -> Folded:
    """Unsigned tables of up to 16 bits, [K, entries], in blocks of the size that takes the fewest bytes.

    An activation function is smooth: in a short block it lies within a few integers of a line.
    """
    return min((_in_blocks(values, bits) for bits in _BLOCK_BITS), key=lambda found: found.bytes)


def _in_blocks(values: np.ndarray, block_bits: int) -> Folded:
    blocks = values.reshape(-1, 1 << block_bits).astype(np.int64)
    sloping, flat = _lines(blocks), (np.zeros(len(blocks), np.int64), *_beside(blocks, 0))
    better = sloping[2] < flat[2]
    slope, base, bits = (np.where(better, *both) for both in zip(sloping, flat, strict=True))
    left = blocks - _on_line(base, slope, blocks.shape[1])
    parts = [np.packbits(row, bitorder="little") for row in _bits(left, bits)]
    first = np.cumsum([0, *(part.size for part in parts)])[:-1]
    rest = np.concatenate([*parts, np.zeros(3, np.uint8)])
    return Folded(np.stack([base, slope, first, bits], axis=1).astype(np.int32), rest, block_bits)


def _lines(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope, base and bits of what is left of each block beside the line from its first entry to its last."""
    rise = blocks[:, -1] - blocks[:, 0]
    slope = np.rint(rise * (1 << _FRACTION_BITS) / (blocks.shape[1] - 1)).astype(np.int64)
    return slope, *_beside(blocks, slope)


def _beside(blocks: np.ndarray, slope: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """The base that puts a line below all entries, rounded, and the bits of what is left then."""
    half = np.full(len(blocks), 1 << _FRACTION_BITS - 1, np.int64)
    left = blocks - _on_line(half, slope, blocks.shape[1])
    least = left.min(axis=1)
    return half + (least << _FRACTION_BITS), np.ceil(np.log2(left.max(axis=1) - least + 1)).astype(np.int64)


def _on_line(base: np.ndarray, slope: np.ndarray | int, entries: int) -> np.ndarray:
    steps = np.multiply.outer(np.broadcast_to(slope, base.shape), np.arange(entries))
    return np.asarray((base[:, None] + steps) >> _FRACTION_BITS)


def _bits(left: np.ndarray, bits: np.ndarray) -> Iterator[np.ndarray]:
    """The bits of each block's numbers one after another, lowest first."""
    for row, count in zip(left, bits.tolist(), strict=True):
        yield (row[:, None] >> np.arange(count) & 1).astype(np.uint8).ravel()
