"""Which function writes which kind of layer in C."""

from __future__ import annotations

from collections.abc import Callable

from mz.compiler.emitters.c99 import linear, matrix, moves, pointwise, tables, windows
from mz.compiler.emitters.c99.part import Context, Part
from mz.emulator.constants import layer_constants
from mz.errors import UserError
from mz.graph import Params

LOWERINGS: dict[str, Callable[..., Part]] = {
    "conv": linear.linear,
    "deconv": linear.linear,
    "dense": linear.linear,
    "activation": tables.table,
    "add": pointwise.add,
    "sub": pointwise.add,
    "mul": pointwise.multiply,
    "matmul": matrix.multiply,
    "maxpool": windows.maximum,
    "avgpool": windows.average,
    "global_avgpool": windows.average,
    "concat": moves.concat,
    "slice": moves.cut,
    "pad": moves.pad,
    "reshape": moves.reshape,
    "transpose": moves.transpose,
    "resize": windows.resize,
}
"""By layer kind: (context, constants) -> part. Inputs are quantized by the caller, host layers run outside."""


def lower(context: Context, params: Params) -> Part:
    """One accelerator layer that is no input. Raises UserError, naming the layer, for what C cannot hold."""
    layer = context.layer
    constants = layer_constants(context.graph, layer, params, context.quantization)
    try:
        return LOWERINGS[layer.kind](context, constants)
    except UserError as error:
        raise UserError(f"layer {layer.name}: {error}; the ONNX target takes it: --emit onnx") from error
