"""Long tables without loss in a fraction of their bytes: lines, and what is left beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mz.emulator.constants import TableConstants

_FRACTION_BITS = 15
_BLOCK_BITS = range(4, 11)
_SHORT = 256
_SPARE_BYTES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Tables of [K, entries]. Entry i of a block of entries / blocks is (base + slope i) >> 15, plus the i-th number of
    `bits` bits that stands in `rest` from byte `first` on, lowest bits first.

    lines: int32 [K, blocks, 4], the base, slope, first and bits of each block. rest: uint8 [bytes], three more than are
    used, so that any number can be read with the two bytes behind its first.
    """

    lines: np.ndarray
    rest: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.lines.nbytes + self.rest.nbytes


def table_arrays(constants: TableConstants, output_bits: int) -> dict[str, np.ndarray]:
    """By name, in the types that a device keeps: `table`, or `lines` and `rest` where it is folded; `choice` where each
    channel has one.
    """
    table = constants.table.astype(np.uint8 if output_bits <= 8 else np.uint16)
    folded = fold(table)
    arrays = {"lines": folded.lines, "rest": folded.rest} if folded else {"table": table}
    if constants.choice is not None:
        arrays["choice"] = constants.choice.astype(np.uint16)
    return arrays


def fold(values: np.ndarray) -> Folded | None:
    """Unsigned integers of up to 16 bits, [K, entries], in blocks of the length that takes the fewest bytes.

    None where that saves nothing, or a table is short. An activation function is smooth: in a small block it lies
    within a few integers of a line.
    """
    if values.shape[1] <= _SHORT:
        return None
    lines, nbytes = min(
        (_lines(values, block_bits) for block_bits in _BLOCK_BITS), key=lambda found: found[1]
    )
    if nbytes >= values.nbytes:
        return None
    rows, blocks = lines.shape[:2]
    left = values.reshape(rows, blocks, -1).astype(np.int64) - _on_line(lines, values.shape[1] // blocks)
    parts = [
        np.packbits((numbers[:, None] >> np.arange(bits) & 1).astype(np.uint8), bitorder="little")
        for numbers, bits in zip(left.reshape(rows * blocks, -1), lines[..., 3].flat, strict=True)
    ]
    rest = np.concatenate([*parts, np.zeros(_SPARE_BYTES, np.uint8)])
    return Folded(lines.astype(np.int32), rest)


def unfold(folded: Folded, entries: int) -> np.ndarray:
    """The tables again, int64 [K, entries]."""
    lines = folded.lines.astype(np.int64)
    length = entries // lines.shape[1]
    first, bits = lines[..., 2:3], lines[..., 3:4]
    place = np.arange(length) * bits
    start = first + (place >> 3)
    window = sum((folded.rest[start + byte].astype(np.int64) << 8 * byte for byte in range(3)), np.int64(0))
    return (_on_line(lines, length) + (window >> (place & 7) & (1 << bits) - 1)).reshape(len(lines), entries)


def _on_line(lines: np.ndarray, length: int) -> np.ndarray:
    return np.asarray((lines[..., 0:1] + lines[..., 1:2] * np.arange(length)) >> _FRACTION_BITS)


def _lines(values: np.ndarray, block_bits: int) -> tuple[np.ndarray, int]:
    """int64 [K, blocks, 4] as in `Folded`, and the bytes of all: each block's line goes from its first entry to its
    last, or lies flat where that leaves less.
    """
    blocks = values.reshape(len(values), -1, 1 << block_bits).astype(np.int64)
    rise = (blocks[..., -1] - blocks[..., 0]) / (blocks.shape[2] - 1)
    slopes = np.rint(rise * (1 << _FRACTION_BITS)).astype(np.int64), np.zeros(blocks.shape[:2], np.int64)
    sloping, flat = (_below(blocks, slope) for slope in slopes)
    lines = np.where(sloping[..., 3:] < flat[..., 3:], sloping, flat)
    sizes = lines[..., 3] << block_bits >> 3
    lines[..., 2] = (np.cumsum(sizes) - sizes.ravel()).reshape(sizes.shape)
    return lines, 4 * lines.size + int(sizes.sum()) + _SPARE_BYTES


def _below(blocks: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Lines of this slope below all entries of their blocks, rounded to the nearest, with the bits that are left."""
    lines = np.zeros((*slope.shape, 4), np.int64)
    lines[..., 0], lines[..., 1] = 1 << (_FRACTION_BITS - 1), slope
    left = blocks - _on_line(lines, blocks.shape[2])
    least = left.min(axis=2)
    lines[..., 0] += least << _FRACTION_BITS
    lines[..., 3] = np.ceil(np.log2(left.max(axis=2) - least + 1))
    return lines
