"""All constants of a quantized network in one block of bytes, as a device holds them, with an index in plain data.

Little-endian, each array at a multiple of 16 bytes. Four-bit weights stand two to a byte, the first in the low half,
as two's complement. What an array is for and how it enters the arithmetic is told in docs/numerics.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mz.compiler.folding import table_arrays
from mz.compiler.summary import packed_bytes
from mz.emulator import Constants, layer_constants
from mz.emulator.constants import (
    BilinearConstants,
    LinearConstants,
    NearestConstants,
    PadConstants,
    PreluSumConstants,
    TableConstants,
)
from mz.emulator.numerics import INT32_LIMIT
from mz.graph import Graph, Input, Params, Quantization

FORMAT = 5
ALIGNMENT = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """data: the bytes. index: where each array stands, and the single numbers of each layer (ready for JSON)."""

    data: bytes
    index: dict[str, Any]

    def layer_bytes(self) -> dict[str, int]:
        """Bytes of each layer's arrays, without what alignment adds."""
        return {
            layer["name"]: sum(array["bytes"] for array in layer["arrays"]) for layer in self.index["layers"]
        }


def pack(graph: Graph, params: Params, quantization: Quantization) -> Packed:
    """Packs every accelerator layer but inputs, in the graph's order. Raises UserError as `layer_constants` does."""
    data = bytearray()
    layers = []
    for layer in graph.layers:
        if layer.host or isinstance(layer, Input):
            continue
        constants = layer_constants(graph, layer, params, quantization)
        weight = quantization.weights.get(layer.name)
        arrays = []
        for name, array, bits in _arrays(
            constants, weight.bits if weight else 0, quantization.tensors[layer.name].bits
        ):
            data.extend(bytes(-len(data) % ALIGNMENT))
            body = pack_array(array, bits)
            entry = {"name": name, "dtype": _dtype(array, bits), "shape": list(array.shape)}
            arrays.append(entry | {"offset": len(data), "bytes": len(body)})
            data.extend(body)
        layers.append(
            {"name": layer.name, "kind": layer.kind, "constants": dict(_numbers(constants)), "arrays": arrays}
        )
    return Packed(
        bytes(data), {"format": FORMAT, "alignment": ALIGNMENT, "bytes": len(data), "layers": layers}
    )


def unpack(data: bytes, index: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays by layer and name, four-bit ones as int8. Raises ValueError for an index that does not fit."""
    if index["format"] != FORMAT or index["bytes"] != len(data):
        raise ValueError(f"not the index of these {len(data)} bytes in format {FORMAT}")
    return {
        layer["name"]: {
            array["name"]: unpack_array(
                data[array["offset"] : array["offset"] + array["bytes"]],
                array["dtype"],
                tuple(array["shape"]),
            )
            for array in layer["arrays"]
        }
        for layer in index["layers"]
    }


def pack_array(array: np.ndarray, bits: int) -> bytes:
    """Integers or float32 of any shape, row-major; signed 4-bit values two to a byte, an odd one below zeros."""
    if bits != 4:
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    flat = array.reshape(-1).astype(np.uint8) & 0xF
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes(flat[0::2] | flat[1::2] << 4)


def unpack_array(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack_array`; `dtype` as the index has it. Raises ValueError for too few or too many bytes."""
    count = int(np.prod(shape, dtype=np.int64))
    if dtype != "int4":
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
    if len(data) != packed_bytes(count, 4):
        raise ValueError(f"{len(data)} bytes cannot hold {count} values of 4 bits")
    both = np.frombuffer(data, np.uint8)
    halves = np.stack([both & 0xF, both >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8).reshape(shape)


def _dtype(array: np.ndarray, bits: int) -> str:
    return "int4" if bits == 4 else array.dtype.name


def _arrays(
    constants: Constants, weight_bits: int, output_bits: int
) -> Iterator[tuple[str, np.ndarray, int]]:
    """(name, array in the type that a device keeps, bits of a value) of one layer."""
    if isinstance(constants, LinearConstants):
        yield "kernel", constants.kernel, weight_bits
        bias = np.int32 if constants.accumulator_bits == 32 else np.int64
        yield "bias", constants.bias.astype(bias), np.dtype(bias).itemsize * 8
    if isinstance(constants, PreluSumConstants):
        numbers = {"a": constants.sum.a, "b": constants.sum.b, "offset": constants.sum.offset}
        wide = max(int(np.abs(array).max()) for array in numbers.values()) >= INT32_LIMIT
        for name, array in numbers.items():
            yield name, array.astype(np.int64 if wide else np.int32), 64 if wide else 32
        yield "unit", constants.sum.unit, 32
    if isinstance(constants, TableConstants):
        for name, array in table_arrays(constants, output_bits).items():
            yield name, array, array.itemsize * 8
    if isinstance(constants, NearestConstants):
        yield "rows", constants.rows.astype(np.uint16), 16
        yield "columns", constants.columns.astype(np.uint16), 16
    if isinstance(constants, BilinearConstants):
        for name, weights in (("rows", constants.rows), ("columns", constants.columns)):
            first = (weights != 0).argmax(axis=1)
            yield name, first.astype(np.uint16), 16
            yield f"{name}_weight", weights[np.arange(len(first)), first].astype(np.uint32), 32
    if isinstance(constants, PadConstants):
        yield "fill", constants.fill.astype(np.uint8 if output_bits <= 8 else np.uint16), max(output_bits, 8)
    for name in ("multiplier", "below"):
        if (factors := getattr(constants, name, None)) is not None:
            yield name, np.asarray(factors, np.float32), 32


def _numbers(constants: Any) -> Iterator[tuple[str, int]]:
    """The single integers among a layer's constants, those of its ratios included."""
    for field in dataclasses.fields(constants):
        value = getattr(constants, field.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value)
        elif isinstance(value, int):
            yield field.name, int(value)
