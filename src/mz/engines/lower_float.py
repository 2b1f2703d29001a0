"""Lowers a graph to float ONNX, one small function per layer kind; tensors are named after layers.

May import the graph and the ONNX writer. Activation functions are those of `mz.graph.functions`, written with
operators of the writer's opset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mz.engines.lower_host import host_op
from mz.engines.onnx_writer import OnnxWriter
from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Pad,
    Params,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    Weighted,
)
from mz.graph.functions import BY_CHANNEL

if TYPE_CHECKING:
    import onnx

Arrays: TypeAlias = Mapping[str, np.ndarray]


def float_model(graph: Graph, params: Params, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """The whole graph in float32, host layers included; batch axis `N` open.

    outputs: layers whose tensors leave the model (default: the graph's); none of them an input.
    """
    writer = OnnxWriter()
    inputs = [layer.name for layer in graph.inputs]
    layers = [layer for layer in graph.layers if not isinstance(layer, Input)]
    return _model(writer, graph, params, layers, inputs, graph.outputs if outputs is None else outputs)


def host_model(graph: Graph, params: Params) -> onnx.ModelProto | None:
    """The host's part alone: from `graph.accelerator_outputs()`, in float, to the outputs that host layers make.

    None where the graph has no host layer. Outputs that leave the accelerator directly are not in the model.
    """
    layers = [layer for layer in graph.layers if layer.host]
    if not layers:
        return None
    outputs = [name for name in graph.outputs if graph[name].host]
    read = {name for layer in layers for name in layer.inputs}
    inputs = [name for name in graph.accelerator_outputs() if name in read]
    return _model(OnnxWriter(), graph, params, layers, inputs, outputs)


def _model(
    writer: OnnxWriter,
    graph: Graph,
    params: Params,
    layers: Sequence[Layer],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    writer.reserve([*inputs, *(layer.name for layer in layers)])
    for layer in layers:
        LOWERINGS[layer.kind](writer, layer, params.get(layer.name, {}), graph.input_shapes(layer))
        writer.name_output(layer.name)
    return writer.model(
        graph.name,
        {name: (np.float32, graph[name].shape) for name in inputs},
        {name: (np.float32, graph[name].shape) for name in dict.fromkeys(outputs)},
    )


def _clipped(writer: OnnxWriter, tensor: str, name: str, clip: tuple[float, float]) -> None:
    """A clip after `tensor`, where there are bounds."""
    low, high = clip
    if clip == (0.0, math.inf):
        writer.node("Relu", [tensor], f"{name}/relu")
    elif math.isfinite(low) or math.isfinite(high):
        bounds = [
            writer.constant(np.float32(bound), f"{name}/{end}") if math.isfinite(bound) else ""
            for bound, end in ((low, "low"), (high, "high"))
        ]
        writer.node("Clip", [tensor, *bounds], f"{name}/clip")


def _by_channel(writer: OnnxWriter, layer: Layer, params: Arrays) -> dict[str, str]:
    """The layer's arrays [C] as constants along the first of its axes, by their names."""
    axes = (1,) * (len(layer.shape) - 1)
    return {
        name: writer.constant(array.reshape(-1, *axes), f"{layer.name}/{name}")
        for name, array in params.items()
    }


def _clip_weighted(writer: OnnxWriter, tensor: str, layer: Weighted, params: Arrays) -> None:
    shape = (-1,) if isinstance(layer, Dense) else (-1, 1, 1)
    if layer.prelu:
        slope = writer.constant(params["slope"].reshape(shape), f"{layer.name}/slope")
        writer.node("PRelu", [tensor, slope], f"{layer.name}/prelu")
        return
    if not layer.clip_by_channel:
        _clipped(writer, tensor, layer.name, layer.clip)
        return
    low, high = (
        writer.constant(params[key].reshape(shape), f"{layer.name}/{key}")
        for key in ("clip_low", "clip_high")
    )
    raised = writer.node("Max", [tensor, low], f"{layer.name}/raised")
    writer.node("Min", [raised, high], f"{layer.name}/clip")


def _conv(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Conv | Deconv)
    name = layer.name
    arrays = [writer.constant(params[key], f"{name}/{key}") for key in ("kernel", "bias")]
    extra = {"output_padding": list(layer.output_padding)} if isinstance(layer, Deconv) else {}
    tensor = writer.node(
        "Conv" if isinstance(layer, Conv) else "ConvTranspose",
        [*layer.inputs, *arrays],
        f"{name}/linear",
        kernel_shape=list(layer.kernel_shape),
        strides=list(layer.strides),
        dilations=list(layer.dilations),
        pads=list(layer.pads),
        group=layer.groups,
        **extra,
    )
    _clip_weighted(writer, tensor, layer, params)


def _dense(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Dense)
    name = layer.name
    bias = writer.constant(params["bias"], f"{name}/bias")
    if len(layer.shape) == 1:
        kernel = writer.constant(params["kernel"], f"{name}/kernel")
        tensor = writer.node("Gemm", [*layer.inputs, kernel, bias], f"{name}/linear", transB=1)
    else:
        kernel = writer.constant(params["kernel"].T, f"{name}/kernel")
        product = writer.node("MatMul", [*layer.inputs, kernel], f"{name}/product")
        tensor = writer.node("Add", [product, bias], f"{name}/linear")
    _clip_weighted(writer, tensor, layer, params)


def _elementwise(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Elementwise)
    tensor = writer.node(layer.kind.capitalize(), layer.inputs, f"{layer.name}/{layer.kind}")
    if isinstance(layer, Add) and layer.prelu:
        arrays = _by_channel(writer, layer, params)
        tensor = writer.node("Mul", [tensor, arrays["factor"]], f"{layer.name}/scaled")
        tensor = writer.node("Add", [tensor, arrays["offset"]], f"{layer.name}/shifted")
        writer.node("PRelu", [tensor, arrays["slope"]], f"{layer.name}/prelu")
        return
    _clipped(writer, tensor, layer.name, layer.clip)


def _matmul(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, MatMul)
    if layer.factor == 1:
        writer.node("MatMul", layer.inputs, layer.name)
        return
    product = writer.node("MatMul", layer.inputs, f"{layer.name}/product")
    factor = writer.constant(np.float32(layer.factor), f"{layer.name}/factor")
    writer.node("Mul", [product, factor], layer.name)


def _pool(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, MaxPool | AvgPool)
    window = {
        "kernel_shape": list(layer.kernel_shape),
        "strides": list(layer.strides),
        "pads": list(layer.pads),
    }
    if isinstance(layer, MaxPool):
        writer.node("MaxPool", layer.inputs, layer.name, **window, dilations=list(layer.dilations))
    else:
        include = int(layer.count_include_pad)
        writer.node("AveragePool", layer.inputs, layer.name, **window, count_include_pad=include)


def _global_avg_pool(
    writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]
) -> None:
    assert isinstance(layer, GlobalAvgPool)
    writer.node("GlobalAveragePool", layer.inputs, layer.name)


def _concat(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Concat)
    writer.node("Concat", layer.inputs, layer.name, axis=layer.axis + 1)


def _slice(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Slice)
    axes = range(1, len(layer.shape) + 1)
    parts = (("starts", layer.starts), ("stops", layer.stops), ("axes", axes), ("steps", layer.steps))
    bounds = [writer.constant(np.asarray(part, np.int64), f"{layer.name}/{end}") for end, part in parts]
    writer.node("Slice", [*layer.inputs, *bounds], layer.name)


def _pad(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Pad)
    writer.padded(layer.inputs[0], layer.pads, np.asarray(layer.fill, np.float32), layer.name)


def _reshape(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Reshape)
    shape = writer.constant(np.asarray([-1, *layer.shape], np.int64), f"{layer.name}/shape")
    writer.node("Reshape", [*layer.inputs, shape], layer.name)


def _transpose(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Transpose)
    writer.node("Transpose", layer.inputs, layer.name, perm=[0, *(axis + 1 for axis in layer.permutation)])


def _resize(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Resize)
    scales = [1.0, 1.0]
    for size, target, scale in zip(shapes[0][1:], layer.shape[1:], layer.scales, strict=True):
        # The runtime floors size * scale in float32: one unit in the last place may miss the shape.
        exact = np.float32(scale)
        while math.floor(np.float32(size) * exact) < target:
            exact = np.nextafter(exact, np.float32(np.inf))
        scales.append(float(exact))
    tensor = writer.constant(np.asarray(scales, np.float32), f"{layer.name}/scales")
    nearest = layer.mode == "nearest"
    writer.node(
        "Resize",
        [*layer.inputs, "", tensor],
        layer.name,
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode=layer.coordinates,
        **({"nearest_mode": layer.nearest_mode} if nearest else {}),
    )


def _softmax(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Softmax)
    writer.node("Softmax", layer.inputs, layer.name, axis=layer.axis + 1)


def _activation(writer: OnnxWriter, layer: Layer, params: Arrays, shapes: Sequence[tuple[int, ...]]) -> None:
    assert isinstance(layer, Activation)
    (x,) = layer.inputs
    arrays = _by_channel(writer, layer, params)
    if layer.function in BY_CHANNEL:
        writer.node("PRelu", [x, arrays["slope"]], layer.name)
    elif layer.scaled:
        x = writer.node("Mul", [x, arrays["factor"]], f"{layer.name}/scaled")
        made = f"{layer.name}/function"
        _function_and_affine(writer, layer, x, made)
        writer.node("Mul", [made, arrays["gain"]], layer.name)
    else:
        _function_and_affine(writer, layer, x, layer.name)


def _function_and_affine(writer: OnnxWriter, layer: Activation, x: str, name: str) -> None:
    made = f"{name}/bare"
    _function(writer, layer, x, made)
    writer.name_output(made)
    writer.affine(made, *layer.affine, f"{name}/affine")
    writer.name_output(name)


def _function(writer: OnnxWriter, layer: Activation, x: str, name: str) -> None:
    if layer.function == "clip":
        low, high = (*layer.constants, math.inf)[:2] if layer.constants else (-math.inf, math.inf)
        if math.isfinite(low) or math.isfinite(high):
            _clipped(writer, x, name, (low, high))
        else:
            writer.node("Identity", [x], name)
    elif layer.function in _OPERATORS:
        operator, attributes = _OPERATORS[layer.function]
        given = dict(zip(attributes, layer.constants, strict=False))
        writer.node(operator, [x], name, **given)
    elif layer.function == "power":
        _power(writer, x, name, *layer.constants)
    else:
        _WRITTEN_OUT[layer.function](writer, x, name)


def _power(
    writer: OnnxWriter, x: str, name: str, exponent: float = 1.0, offset: float = 0.0, factor: float = 1.0
) -> None:
    x = writer.affine(x, factor, offset, f"{name}/base")
    if not float(exponent).is_integer():
        x = writer.node("Relu", [x], f"{name}/positive")
    writer.node("Pow", [x, writer.constant(np.float32(exponent), f"{name}/exponent")], name)


def _gelu(writer: OnnxWriter, x: str, name: str) -> None:
    scaled = writer.node(
        "Mul", [x, writer.constant(np.float32(math.sqrt(0.5)), "half_root")], f"{name}/scaled"
    )
    _half_of_x_times_one_plus(writer, x, writer.node("Erf", [scaled], f"{name}/erf"), name)


def _gelu_tanh(writer: OnnxWriter, x: str, name: str) -> None:
    square = writer.node("Mul", [x, x], f"{name}/square")
    cubed = writer.node("Mul", [square, x], f"{name}/cube")
    part = writer.node("Mul", [cubed, writer.constant(np.float32(0.044715), "gelu_cubic")], f"{name}/cubic")
    total = writer.node("Add", [x, part], f"{name}/inner")
    root = writer.constant(np.float32(math.sqrt(2 / math.pi)), "gelu_root")
    scaled = writer.node("Mul", [total, root], f"{name}/scaled")
    _half_of_x_times_one_plus(writer, x, writer.node("Tanh", [scaled], f"{name}/tanh"), name)


def _half_of_x_times_one_plus(writer: OnnxWriter, x: str, bend: str, name: str) -> None:
    raised = writer.node("Add", [bend, writer.constant(np.float32(1), "one")], f"{name}/raised")
    product = writer.node("Mul", [x, raised], f"{name}/product")
    writer.node("Mul", [product, writer.constant(np.float32(0.5), "half")], name)


def _silu(writer: OnnxWriter, x: str, name: str) -> None:
    writer.node("Mul", [x, writer.node("Sigmoid", [x], f"{name}/sigmoid")], name)


def _mish(writer: OnnxWriter, x: str, name: str) -> None:
    bend = writer.node("Tanh", [writer.node("Softplus", [x], f"{name}/softplus")], f"{name}/tanh")
    writer.node("Mul", [x, bend], name)


def _square(writer: OnnxWriter, x: str, name: str) -> None:
    writer.node("Mul", [x, x], name)


def _sqrt(writer: OnnxWriter, x: str, name: str) -> None:
    writer.node("Sqrt", [writer.node("Relu", [x], f"{name}/positive")], name)


_OPERATORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sigmoid": ("Sigmoid", ()),
    "hard_sigmoid": ("HardSigmoid", ("alpha", "beta")),
    "hard_swish": ("HardSwish", ()),
    "leaky_relu": ("LeakyRelu", ("alpha",)),
    "elu": ("Elu", ("alpha",)),
    "selu": ("Selu", ("alpha", "gamma")),
    "celu": ("Celu", ("alpha",)),
    "softplus": ("Softplus", ()),
    "tanh": ("Tanh", ()),
    "abs": ("Abs", ()),
    "exp": ("Exp", ()),
}
"""ONNX operator and the attributes that take the layer's constants, by function."""

_WRITTEN_OUT: dict[str, Callable[[OnnxWriter, str, str], None]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "square": _square,
    "sqrt": _sqrt,
}

Lowering: TypeAlias = Callable[[OnnxWriter, Layer, Arrays, Sequence[tuple[int, ...]]], None]
"""(writer, layer, its arrays, shapes of its inputs): writes nodes, the last of which makes the layer's output."""

LOWERINGS: dict[str, Lowering] = {
    "conv": _conv,
    "deconv": _conv,
    "dense": _dense,
    "activation": _activation,
    "add": _elementwise,
    "sub": _elementwise,
    "mul": _elementwise,
    "matmul": _matmul,
    "maxpool": _pool,
    "avgpool": _pool,
    "global_avgpool": _global_avg_pool,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "resize": _resize,
    "softmax": _softmax,
    "host_op": host_op,
}
"""By layer kind; `input` needs none, it is an input of the model."""
