"""The arithmetic of docs/numerics.md a second time: plain loops, Python integers, exact fractions, float32 scalars.

Written from that page and from nothing else, so that it can judge the numpy kernels; slow by intent. Of mz it imports
the layer classes only. A tensor is a dict from index (no batch axis) to integer, in row-major order.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from mz.graph import Graph, Layer, Params, Quantization

Index = tuple[int, ...]
Tensor = dict[Index, int]


def indices(shape):
    return itertools.product(*(range(size) for size in shape))


def clamp(value, low, high):
    return max(low, min(high, value))


def single(value) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(value)


def rne(value) -> float | int:
    """Nearest integer, ties to even; infinities stay."""
    value = value if isinstance(value, Fraction | int) else float(value)
    return value if isinstance(value, float) and math.isinf(value) else round(value)


def quantize(x, tensor) -> int:
    with np.errstate(over="ignore"):
        ratio = np.float32(x) / np.float32(tensor.scale)
    return int(clamp(rne(ratio) + tensor.zero_point, 0, 2**tensor.bits - 1))


def bounds(clip, tensor) -> tuple[int, int]:
    top = 2**tensor.bits - 1
    ends = []
    for bound in clip:
        step = bound if math.isinf(bound) else round(bound / float(tensor.scale)) + tensor.zero_point
        ends.append(int(clamp(step, 0, top)))
    return ends[0], ends[1]


def multiplier(scale_x, scale_w, scale_y) -> np.float32:
    return np.float32(np.float32(scale_x) * np.float32(scale_w)) / np.float32(scale_y)


def requantize(acc: int, m: np.float32, zero: int, low: int, high: int, slope=None) -> int:
    """slope: of a PReLU, float32."""
    assert abs(acc) < 2**53
    if slope is not None and acc < 0:
        m = np.float32(m) * np.float32(slope)
    with np.errstate(over="ignore"):
        product = single(acc) * m
    return int(clamp(rne(product) + zero, low, high))


def slope_of(layer, params, channel: int):
    return params["slope"][channel] if layer.prelu else None


def conv(layer, x: Tensor, in_shape, weight, qx, qy, params) -> Tensor:
    channels, height, width = in_shape
    group_in, group_out = channels // layer.groups, layer.shape[0] // layer.groups
    low, high = bounds(layer.clip, qy)
    top, left = layer.pads[:2]
    out = {}
    for o, i, j in indices(layer.shape):
        acc = int(weight.bias[o])
        for c, u, v in indices((group_in, *layer.kernel_shape)):
            row = i * layer.strides[0] - top + u * layer.dilations[0]
            column = j * layer.strides[1] - left + v * layer.dilations[1]
            if 0 <= row < height and 0 <= column < width:
                source = x[o // group_out * group_in + c, row, column]
                acc += (source - qx.zero_point) * int(weight.kernel[o, c, u, v])
        m = multiplier(qx.scale, weight.scale[o], qy.scale)
        out[o, i, j] = requantize(acc, m, qy.zero_point, low, high, slope_of(layer, params, o))
    return out


def deconv(layer, x: Tensor, in_shape, weight, qx, qy, params) -> Tensor:
    """Every input pixel adds its kernel to the output at stride * position + dilation * tap - pad."""
    channels = in_shape[0]
    group_in, group_out = channels // layer.groups, layer.shape[0] // layer.groups
    low, high = bounds(layer.clip, qy)
    acc = {index: int(weight.bias[index[0]]) for index in indices(layer.shape)}
    for (c, i, j), (k, u, v) in itertools.product(
        indices(in_shape), indices((group_out, *layer.kernel_shape))
    ):
        row = i * layer.strides[0] + u * layer.dilations[0] - layer.pads[0]
        column = j * layer.strides[1] + v * layer.dilations[1] - layer.pads[1]
        target = (c // group_in * group_out + k, row, column)
        if target in acc:
            acc[target] += (x[c, i, j] - qx.zero_point) * int(weight.kernel[c, k, u, v])
    out = {}
    for index, value in acc.items():
        m = multiplier(qx.scale, weight.scale[index[0]], qy.scale)
        out[index] = requantize(value, m, qy.zero_point, low, high, slope_of(layer, params, index[0]))
    return out


def dense(layer, x: Tensor, in_shape, weight, qx, qy, params) -> Tensor:
    low, high = bounds(layer.clip, qy)
    out = {}
    for index in indices(layer.shape):
        *lead, o = index
        acc = int(weight.bias[o]) + sum(
            (x[(*lead, i)] - qx.zero_point) * int(weight.kernel[o, i]) for i in range(in_shape[-1])
        )
        m = multiplier(qx.scale, weight.scale[o], qy.scale)
        out[index] = requantize(acc, m, qy.zero_point, low, high, slope_of(layer, params, o))
    return out


def average(layer, x: Tensor, in_shape, qx, qy) -> Tensor:
    _, height, width = in_shape
    whole = layer.kind == "global_avgpool"
    kernel = (height, width) if whole else layer.kernel_shape
    strides, pads = ((1, 1), (0, 0, 0, 0)) if whole else (layer.strides, layer.pads)
    out = {}
    for c, i, j in indices(layer.shape):
        rows = range(i * strides[0] - pads[0], i * strides[0] - pads[0] + kernel[0])
        columns = range(j * strides[1] - pads[1], j * strides[1] - pads[1] + kernel[1])
        inside = [
            (c, r, s) for r, s in itertools.product(rows, columns) if 0 <= r < height and 0 <= s < width
        ]
        count = kernel[0] * kernel[1] if whole or layer.count_include_pad else len(inside)
        acc = sum(x[place] - qx.zero_point for place in inside)
        m = multiplier(qx.scale, np.float32(1 / count), qy.scale)
        out[c, i, j] = requantize(acc, m, qy.zero_point, 0, 2**qy.bits - 1)
    return out


def broadcast(x: Tensor, shape, index: Index) -> int:
    return x[tuple(0 if size == 1 else place for size, place in zip(shape, index, strict=True))]


def elementwise(layer, a: Tensor, b: Tensor, shapes, qa, qb, qy) -> Tensor:
    wide = max(qa.bits, qb.bits, qy.bits) > 8
    low, high = bounds(layer.clip, qy)
    out = {}
    if layer.kind == "mul":
        ratio = float(qa.scale) * float(qb.scale) / float(qy.scale)
        largest, most = (2**20 - 1, 34) if wide else (255, 16)
        shift = next(s for s in range(most, -1, -1) if round(ratio * 2**s) <= largest)
        factor = round(ratio * 2**shift)
        for index in indices(layer.shape):
            product = (broadcast(a, shapes[0], index) - qa.zero_point) * (
                broadcast(b, shapes[1], index) - qb.zero_point
            )
            value = Fraction(factor * product, 2**shift) + qy.zero_point
            out[index] = clamp(rne(value), low, high)
        return out
    ra, rb = float(qa.scale) / float(qy.scale), float(qb.scale) / float(qy.scale)
    for shift in range(34 if wide else 16, -1, -1):
        fa, fb = round(ra * 2**shift), round(rb * 2**shift)
        if max(fa, fb) < 2**34 if wide else fa + fb + 2**shift <= 65793:
            break
    else:
        raise AssertionError("no ratio")
    sign = -1 if layer.kind == "sub" else 1
    for index in indices(layer.shape):
        total = fa * (broadcast(a, shapes[0], index) - qa.zero_point) + sign * fb * (
            broadcast(b, shapes[1], index) - qb.zero_point
        )
        out[index] = clamp(rne(Fraction(total, 2**shift) + qy.zero_point), low, high)
    return out


def prelu_sum(layer, a: Tensor, b: Tensor, shapes, qa, qb, qy, params) -> Tensor:
    wide = max(qa.bits, qb.bits, qy.bits) > 8
    most, finest = (2.0**51, -34) if wide else (2.0**23, -16)
    reach_a, reach_b = (max(t.zero_point, 2**t.bits - 1 - t.zero_point) for t in (qa, qb))
    out = {}
    for index in indices(layer.shape):
        factor, offset, slope = (params[name][index[0]] for name in ("factor", "offset", "slope"))
        ra = float(factor) * (float(qa.scale) / float(qy.scale))
        rb = float(factor) * (float(qb.scale) / float(qy.scale))
        ro = float(offset) / float(qy.scale)
        power = finest
        while (abs(ra) * reach_a + abs(rb) * reach_b + abs(ro)) / most > 2.0**power:
            power += 1
        fa, fb, fo = (round(value / 2.0**power) for value in (ra, rb, ro))
        acc = fa * (broadcast(a, shapes[0], index) - qa.zero_point) + fo
        acc += fb * (broadcast(b, shapes[1], index) - qb.zero_point)
        top = 2**qy.bits - 1
        out[index] = requantize(acc, np.float32(2.0**power), qy.zero_point, 0, top, slope)
    return out


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _elu(x: float, alpha: float) -> float:
    return x if x >= 0 else alpha * math.expm1(x)


def _power(base: float, exponent: float) -> float:
    if not exponent.is_integer():
        base = max(base, 0.0)
    try:
        return base**exponent
    except (OverflowError, ZeroDivisionError):
        return math.copysign(math.inf, base) if exponent % 2 == 1 else math.inf


FUNCTIONS = {
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: clamp(alpha * x + beta, 0.0, 1.0),
    "hard_swish": lambda x: x * clamp(x / 6 + 0.5, 0.0, 1.0),
    "leaky_relu": lambda x, alpha: x if x >= 0 else alpha * x,
    "elu": _elu,
    "selu": lambda x, alpha, gamma: gamma * _elu(x, alpha),
    "celu": lambda x, alpha: x if x >= 0 else alpha * math.expm1(x / alpha),
    "softplus": _softplus,
    "tanh": math.tanh,
    "power": lambda x, exponent, offset, factor=1.0: _power(factor * x + offset, exponent),
    "clip": lambda x, low, high: clamp(x, low, high),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "abs": abs,
    "exp": _exp,
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
    "square": lambda x: x * x,
    "prelu": lambda x, slope: x if x >= 0 else slope * x,
}


def activation(layer, x: Tensor, params, qx, qy) -> Tensor:
    out = {}
    for index in indices(layer.shape):
        constants = layer.constants
        own = {name: float(array[index[0] if len(array) > 1 else 0]) for name, array in params.items()}
        if layer.function == "prelu":
            constants = [own["slope"]]
        real = float(qx.scale) * (x[index] - qx.zero_point)
        factor, offset = layer.affine
        if layer.scaled:
            value = own["gain"] * (
                factor * FUNCTIONS[layer.function](own["factor"] * real, *constants) + offset
            )
        else:
            value = factor * FUNCTIONS[layer.function](real, *constants) + offset
        steps = value / float(qy.scale)
        out[index] = int(clamp(rne(steps) + qy.zero_point, 0, 2**qy.bits - 1))
    return out


def source(layer, axis: int, size: int, o: int) -> float:
    """The real source coordinate of output index `o` along `axis` (0 rows, 1 columns), as ONNX's Resize defines it."""
    out_size, scale = layer.shape[1 + axis], layer.scales[axis]
    if layer.coordinates == "asymmetric":
        return o / scale
    if layer.coordinates == "align_corners":
        return o * (size - 1) / (out_size - 1) if out_size > 1 else 0.0
    if layer.coordinates == "pytorch_half_pixel" and out_size == 1:
        return 0.0
    return (o + 0.5) / scale - 0.5


def nearest(layer, axis: int, size: int, o: int) -> int:
    x = source(layer, axis, size, o)
    if layer.nearest_mode == "floor":
        index = math.floor(x)
    elif layer.nearest_mode == "ceil":
        index = math.ceil(x)
    elif layer.nearest_mode == "round_prefer_floor":
        index = math.ceil(x - 0.5)
    else:
        index = math.floor(x + 0.5)
    return clamp(index, 0, size - 1)


def bilinear(layer, axis: int, size: int, o: int, fraction_bits: int) -> dict[int, int]:
    """Integer weight by source index; they sum to 2^fraction_bits."""
    x = clamp(source(layer, axis, size, o), 0, size - 1)
    left = math.floor(x)
    right = min(left + 1, size - 1)
    if left == right:
        return {left: 2**fraction_bits}
    share = x - left
    weights = {left: round((1 - share) * 2**fraction_bits), right: round(share * 2**fraction_bits)}
    larger = left if weights[left] >= weights[right] else right
    weights[larger] += 2**fraction_bits - sum(weights.values())
    return weights


def resize(layer, x: Tensor, in_shape, bits: int) -> Tensor:
    sizes = in_shape[1:]
    fraction_bits = 8 if bits <= 8 else 16
    out = {}
    for c, i, j in indices(layer.shape):
        if layer.mode == "nearest":
            out[c, i, j] = x[c, nearest(layer, 0, sizes[0], i), nearest(layer, 1, sizes[1], j)]
            continue
        rows = bilinear(layer, 0, sizes[0], i, fraction_bits)
        columns = bilinear(layer, 1, sizes[1], j, fraction_bits)
        total = sum(rows[r] * columns[s] * x[c, r, s] for r in rows for s in columns)
        out[c, i, j] = rne(Fraction(total, 4**fraction_bits))
    return out


def maxpool(layer, x: Tensor, in_shape) -> Tensor:
    out = {}
    for c, i, j in indices(layer.shape):
        places = [
            (
                c,
                i * layer.strides[0] - layer.pads[0] + u * layer.dilations[0],
                j * layer.strides[1] - layer.pads[1] + v * layer.dilations[1],
            )
            for u, v in indices(layer.kernel_shape)
        ]
        out[c, i, j] = max(x[place] for place in places if place in x)
    return out


def move(layer, inputs: list[Tensor], shapes, qy) -> Tensor:
    x = inputs[0]
    out: Tensor = {}
    for flat, index in enumerate(indices(layer.shape)):
        match layer.kind:
            case "concat":
                place = list(index)
                for tensor, shape in zip(inputs, shapes, strict=True):
                    if place[layer.axis] < shape[layer.axis]:
                        out[index] = tensor[tuple(place)]
                        break
                    place[layer.axis] -= shape[layer.axis]
            case "slice":
                places = zip(layer.starts, layer.steps, index, strict=True)
                out[index] = x[tuple(start + step * i for start, step, i in places)]
            case "pad":
                c, i, j = index
                around = quantize(layer.values[c], qy) if layer.values else qy.zero_point
                out[index] = x.get((c, i - layer.pads[0], j - layer.pads[1]), around)
            case "reshape":
                out[index] = list(x.values())[flat]
            case "transpose":
                place = [0] * len(index)
                for axis, source_axis in enumerate(layer.permutation):
                    place[source_axis] = index[axis]
                out[index] = x[tuple(place)]
    return out


def matmul(layer, a: Tensor, b: Tensor, shapes, qa, qb, qy) -> Tensor:
    def source(tensor: Tensor, shape, lead, row, column) -> int:
        return tensor[(*(0 if size == 1 else i for size, i in zip(shape, lead, strict=False)), row, column)]

    m = multiplier(qa.scale, np.float32(qb.scale) * np.float32(layer.factor), qy.scale)
    out = {}
    for *lead, row, column in indices(layer.shape):
        acc = 0
        for k in range(shapes[0][-1]):
            left = source(a, shapes[0], lead, row, k) - qa.zero_point
            acc += left * (source(b, shapes[1], lead, k, column) - qb.zero_point)
        out[(*lead, row, column)] = requantize(acc, m, qy.zero_point, 0, 2**qy.bits - 1)
    return out


def run_image(
    graph: Graph, layer: Layer, params: Params, quantization: Quantization, inputs: list[Tensor]
) -> Tensor:
    """The layer's output for one image."""
    shapes = graph.input_shapes(layer)
    q = [quantization.tensors[name] for name in layer.inputs]
    qy = quantization.tensors[layer.name]
    match layer.kind:
        case "conv" | "deconv" | "dense":
            function = {"conv": conv, "deconv": deconv, "dense": dense}[layer.kind]
            weight, own = quantization.weights[layer.name], params.get(layer.name, {})
            return function(layer, inputs[0], shapes[0], weight, q[0], qy, own)
        case "avgpool" | "global_avgpool":
            return average(layer, inputs[0], shapes[0], q[0], qy)
        case "add" if layer.prelu:
            return prelu_sum(layer, inputs[0], inputs[1], shapes, q[0], q[1], qy, params[layer.name])
        case "add" | "sub" | "mul":
            return elementwise(layer, inputs[0], inputs[1], shapes, q[0], q[1], qy)
        case "matmul":
            return matmul(layer, inputs[0], inputs[1], shapes, q[0], q[1], qy)
        case "activation":
            return activation(layer, inputs[0], params.get(layer.name, {}), q[0], qy)
        case "resize":
            return resize(layer, inputs[0], shapes[0], qy.bits)
        case "maxpool":
            return maxpool(layer, inputs[0], shapes[0])
        case "concat" | "slice" | "pad" | "reshape" | "transpose":
            return move(layer, inputs, shapes, qy)
    raise AssertionError(f"no naive form of {layer.kind}")


def run(
    graph: Graph, layer: Layer, params: Params, quantization: Quantization, inputs: list[np.ndarray]
) -> np.ndarray:
    """Integers [N, *shape] of the inputs -> integers of the layer's output."""
    images = []
    for arrays in zip(*inputs, strict=True):
        tensors = [
            {index: int(array[index]) for index in indices(shape)}
            for array, shape in zip(arrays, graph.input_shapes(layer), strict=True)
        ]
        out = run_image(graph, layer, params, quantization, tensors)
        images.append(np.array([out[index] for index in indices(layer.shape)]).reshape(layer.shape))
    return np.stack(images)
