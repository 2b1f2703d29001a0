"""Random single-layer networks of every kind and precision with their integers, as hypothesis strategies.

Structure, precisions, scales and zero points are drawn (and shrink); the integers come from a drawn pattern and seed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Params,
    Quantization,
    Reshape,
    Resize,
    Slice,
    Sub,
    TensorQuant,
    Transpose,
    WeightQuant,
)
from mz.graph.functions import ARRAYS, BY_CHANNEL, SCALING
from mz.graph.layers import UNBOUNDED


@dataclass(frozen=True)
class Case:
    """A network of Input layers and one more, with integers [N, *shape] for every input."""

    graph: Graph
    params: Params
    quantization: Quantization
    integers: dict[str, np.ndarray]

    @property
    def layer(self) -> Layer:
        return self.graph.layers[-1]

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """Real inputs that Input layers quantize back to `integers`."""
        tensors = self.quantization.tensors
        return {name: tensors[name].dequantize(q) for name, q in self.integers.items()}

    def __repr__(self) -> str:
        arrays = {name: q.tolist() for name, q in self.integers.items()}
        return f"Case({self.layer}, {self.quantization}, {self.params}, {arrays})"


BITS = st.sampled_from((4, 8, 16))
PATTERNS = ("random", "extremes", "low", "high", "centre")
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.one_of(
    st.floats(2.0**-10, 1.0, width=32),
    st.sampled_from([2.0**-20, 2.0**-7, 0.25, 1.0, 2.0**12]).map(float),
    st.floats(2.0**-33, 2.0**33, width=32),
)


def fill(shape, low: int, high: int, centre: int, pattern: str, seed: int) -> np.ndarray:
    """Integers in [low, high]: random, only the two extremes, one extreme, or near `centre`."""
    rng = np.random.default_rng(seed)
    if pattern == "random":
        return rng.integers(low, high + 1, shape)
    if pattern == "extremes":
        return rng.choice([low, high], shape)
    if pattern == "centre":
        return np.clip(centre + rng.integers(-2, 3, shape), low, high)
    return np.full(shape, low if pattern == "low" else high)


@st.composite
def tensors(draw, scale=None, bits=None) -> TensorQuant:
    bits = draw(BITS) if bits is None else bits
    top = 2**bits - 1
    zero_point = draw(
        st.one_of(st.sampled_from([0, top, 1, top - 1, top // 2, top // 2 + 1]), st.integers(0, top))
    )
    scale = draw(SCALES) if scale is None else scale
    return TensorQuant(np.float32(scale), zero_point, bits)


@st.composite
def clips(draw, tensor: TensorQuant) -> tuple[float, float]:
    low, high = tensor.real_range
    choices = st.one_of(
        st.just((-math.inf, math.inf)),
        st.just((0.0, math.inf)),
        st.just((0.0, 6.0)),
        st.just((-1.0, 1.0)),
        st.tuples(st.floats(0, 1), st.floats(0, 1)).map(
            lambda ends: tuple(sorted(low + (high - low) * end for end in ends))
        ),
    )
    return draw(choices)


@st.composite
def with_prelu(draw, layer) -> tuple[Layer, Params]:
    """The layer, in a third of the cases with a PReLU in the place of its clip, and its arrays."""
    if draw(st.integers(0, 2)):
        return layer, {}
    channels = layer.shape[-1] if isinstance(layer, Dense) else layer.shape[0]
    rng = np.random.default_rng(draw(SEEDS))
    slopes = {
        "leaky": np.full(channels, draw(st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0]))),
        "any": rng.normal(0, 1, channels),
        "powers": np.exp2(rng.integers(-6, 4, channels)) * rng.choice([-1, 1], channels),
    }
    arrays = {"slope": slopes[draw(st.sampled_from(sorted(slopes)))]}
    if isinstance(layer, Add):
        powers = np.exp2(rng.integers(-4, 4, (2, channels))) * rng.choice([-1, 0, 1], (2, channels))
        numbers = powers if draw(st.booleans()) else rng.normal(0, 1, (2, channels))
        arrays |= {"factor": numbers[0], "offset": numbers[1] * draw(SCALES)}
    held = {name: array.astype(np.float32) for name, array in arrays.items()}
    return dataclasses.replace(layer, clip=UNBOUNDED, prelu=True), {layer.name: held}


def sizes(most: int = 6):
    return st.integers(1, most)


@st.composite
def finish(draw, layer, inputs, quantization, params=None) -> Case:
    """`inputs`: TensorQuant and shape by name."""
    batch = draw(st.integers(1, 2))
    integers = {}
    for name, (tensor, shape) in inputs.items():
        quantization.tensors[name] = tensor
        pattern, seed = draw(st.sampled_from(PATTERNS)), draw(SEEDS)
        integers[name] = fill((batch, *shape), 0, tensor.q_max, tensor.zero_point, pattern, seed)
    layers = [Input(name=name, inputs=(), shape=shape) for name, (_, shape) in inputs.items()]
    graph = Graph("case", (*layers, layer), (layer.name,))
    return Case(graph, params or {}, quantization, integers)


@st.composite
def weights(draw, shape, channels: int, x: TensorQuant, y_bits: int, taps: int):
    """(WeightQuant, output TensorQuant) with an output range near the one that the sums reach, ties included."""
    bits = draw(BITS)
    top = 2 ** (bits - 1) - 1
    pattern, seed = draw(st.sampled_from(PATTERNS)), draw(SEEDS)
    kernel = fill(shape, -top, top, 0, pattern, seed).astype(np.int8 if bits <= 8 else np.int16)
    reach = max(1, taps * top * x.q_max)
    limit = reach if x.bits <= 8 and bits <= 8 else reach * 16
    bias = fill((channels,), -limit // 4, limit // 4, 0, draw(st.sampled_from(PATTERNS)), seed + 1)
    rng = np.random.default_rng(seed + 2)
    base = draw(SCALES)
    if draw(st.booleans()):
        scale = np.full(channels, base, np.float32)
    else:
        scale = (base * 2.0 ** rng.uniform(-3, 3, channels)).astype(np.float32)
    if draw(st.booleans()):  # a power of two as the multiplier: ties abound
        ratio = 2.0 ** -draw(st.integers(0, max(1, int(math.log2(reach)))))
    else:
        ratio = (2**y_bits) / reach * draw(st.floats(0.25, 64))
    y = draw(tensors(float(x.scale) * base / ratio, y_bits))
    return WeightQuant(kernel, scale, bias.astype(np.int64), bits), y


def out_size(size, kernel, stride, dilation, pads):
    return (size + pads - (kernel - 1) * dilation - 1) // stride + 1


@st.composite
def convs(draw) -> Case:
    kernel = (draw(sizes(3)), draw(sizes(3)))
    strides = (draw(sizes(3)), draw(sizes(3)))
    dilations = (draw(sizes(2)), draw(sizes(2)))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    group_in, group_out = draw(sizes(3)), draw(sizes(3))
    if draw(st.booleans()):
        groups, group_in, group_out = draw(sizes(6)), 1, draw(sizes(2))
    need = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    height = max(draw(sizes()), need[0] - pads[0] - pads[2])
    width = max(draw(sizes()), need[1] - pads[1] - pads[3])
    shape = (
        groups * group_out,
        out_size(height, kernel[0], strides[0], dilations[0], pads[0] + pads[2]),
        out_size(width, kernel[1], strides[1], dilations[1], pads[1] + pads[3]),
    )
    x = draw(tensors())
    kernel_shape = (shape[0], group_in, *kernel)
    weight, y = draw(weights(kernel_shape, shape[0], x, draw(BITS), group_in * math.prod(kernel)))
    layer = Conv(
        name="conv1", inputs=("x",), shape=shape, clip=draw(clips(y)), kernel_shape=kernel, strides=strides,
        dilations=dilations, pads=pads, groups=groups,
    )  # fmt: skip
    quantization = Quantization({"conv1": y}, {"conv1": weight})
    layer, params = draw(with_prelu(layer))
    return draw(finish(layer, {"x": (x, (groups * group_in, height, width))}, quantization, params))


@st.composite
def deconvs(draw) -> Case:
    kernel = (draw(sizes(3)), draw(sizes(3)))
    strides = (draw(sizes(3)), draw(sizes(3)))
    dilations = (draw(sizes(2)), draw(sizes(2)))
    output_padding = tuple(draw(st.integers(0, stride - 1)) for stride in strides)
    height, width = draw(sizes(4)), draw(sizes(4))
    full = [
        (size - 1) * s + (k - 1) * d + 1 + extra
        for size, s, k, d, extra in zip(
            (height, width), strides, kernel, dilations, output_padding, strict=True
        )
    ]
    pads = [0, 0, 0, 0]
    for axis in (0, 1):
        pads[axis] = draw(st.integers(0, min(2, full[axis] - 1)))
        pads[axis + 2] = draw(st.integers(0, min(2, full[axis] - 1 - pads[axis])))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    group_in, group_out = draw(sizes(3)), draw(sizes(3))
    shape = (groups * group_out, full[0] - pads[0] - pads[2], full[1] - pads[1] - pads[3])
    x = draw(tensors())
    kernel_shape = (groups * group_in, group_out, *kernel)
    weight, y = draw(weights(kernel_shape, shape[0], x, draw(BITS), group_in * math.prod(kernel)))
    layer = Deconv(
        name="deconv1", inputs=("x",), shape=shape, clip=draw(clips(y)), kernel_shape=kernel, strides=strides,
        dilations=dilations, pads=tuple(pads), output_padding=output_padding, groups=groups,
    )  # fmt: skip
    quantization = Quantization({"deconv1": y}, {"deconv1": weight})
    layer, params = draw(with_prelu(layer))
    return draw(finish(layer, {"x": (x, (groups * group_in, height, width))}, quantization, params))


@st.composite
def denses(draw) -> Case:
    lead = tuple(draw(st.lists(sizes(3), max_size=2)))
    size, out = draw(sizes(20)), draw(sizes(20))
    x = draw(tensors())
    weight, y = draw(weights((out, size), out, x, draw(BITS), size))
    layer = Dense(name="fc1", inputs=("x",), shape=(*lead, out), clip=draw(clips(y)))
    layer, params = draw(with_prelu(layer))
    return draw(finish(layer, {"x": (x, (*lead, size))}, Quantization({"fc1": y}, {"fc1": weight}), params))


@st.composite
def operands(draw):
    """Two shapes of one rank that broadcast, and the shape of the result."""
    shape = tuple(draw(st.lists(sizes(4), min_size=1, max_size=3)))
    form = draw(st.sampled_from(["same", "channel", "any"]))
    keep = [[True, True] for _ in shape]
    if form == "channel":
        keep = [[True, True]] + [[True, False] for _ in shape[1:]]
    elif form == "any":
        keep = [draw(st.sampled_from([[True, True], [True, False], [False, True]])) for _ in shape]
    a, b = (
        tuple(size if kept[side] else 1 for size, kept in zip(shape, keep, strict=True)) for side in (0, 1)
    )
    pair = (a, b) if draw(st.booleans()) else (b, a)
    return *pair, shape


@st.composite
def additions(draw, cls) -> Case:
    shape_a, shape_b, shape = draw(operands())
    a, b = draw(tensors()), draw(tensors())
    bits = draw(BITS)
    if draw(st.booleans()):  # exact halves: ties abound
        b = TensorQuant(np.float32(float(a.scale) * 2.0 ** draw(st.integers(-3, 3))), b.zero_point, b.bits)
        scale = float(a.scale) * 2.0 ** draw(st.integers(-2, 6))
    else:
        reach = float(a.scale) * a.q_max + float(b.scale) * b.q_max
        scale = max(reach / 2**bits * draw(st.floats(0.1, 4)), 1e-4 * max(float(a.scale), float(b.scale)))
    y = draw(tensors(scale, bits))
    layer, params = cls(name="y", inputs=("a", "b"), shape=shape, clip=draw(clips(y))), {}
    if cls is Add and len(shape) != 2:
        layer, params = draw(with_prelu(layer))
    return draw(finish(layer, {"a": (a, shape_a), "b": (b, shape_b)}, Quantization({"y": y}), params))


@st.composite
def products(draw) -> Case:
    shape_a, shape_b, shape = draw(operands())
    a, b, bits = draw(tensors()), draw(tensors()), draw(BITS)
    if draw(st.booleans()):
        ratio = draw(st.integers(1, 255)) * 2.0 ** -draw(st.integers(0, 16))
    else:
        ratio = 2**bits / (a.q_max * b.q_max) * draw(st.floats(0.25, 8))
    y = draw(tensors(float(a.scale) * float(b.scale) / min(ratio, 250.0), bits))
    layer = Mul(name="y", inputs=("a", "b"), shape=shape, clip=draw(clips(y)))
    return draw(finish(layer, {"a": (a, shape_a), "b": (b, shape_b)}, Quantization({"y": y})))


@st.composite
def matrix_products(draw) -> Case:
    rows, inner, columns = draw(sizes(5)), draw(sizes(12)), draw(sizes(5))
    lead = draw(st.lists(st.tuples(sizes(3), st.sampled_from(["both", "a", "b"])), max_size=2))
    lead_a = tuple(size if side != "b" else 1 for size, side in lead)
    lead_b = tuple(size if side != "a" else 1 for size, side in lead)
    a, b, bits = draw(tensors()), draw(tensors()), draw(BITS)
    factor = draw(st.sampled_from([1.0, 0.125, 0.3535533905932738]))
    if draw(st.booleans()):  # a power of two as the multiplier: ties abound
        ratio = 2.0 ** -draw(st.integers(0, 16))
    else:
        ratio = 2**bits / (inner * a.q_max * b.q_max) * draw(st.floats(0.25, 64))
    y = draw(tensors(float(a.scale) * float(b.scale) * factor / ratio, bits))
    shape = (*(size for size, _ in lead), rows, columns)
    layer = MatMul(name="y", inputs=("a", "b"), shape=shape, factor=factor)
    inputs = {"a": (a, (*lead_a, rows, inner)), "b": (b, (*lead_b, inner, columns))}
    return draw(finish(layer, inputs, Quantization({"y": y})))


CONSTANTS = {
    "hard_sigmoid": [(0.2, 0.5), (1 / 6, 0.5)],
    "leaky_relu": [(0.01,), (0.125,), (1.5,)],
    "elu": [(1.0,), (0.5,)],
    "selu": [(1.6732632423543772, 1.0507009873554805)],
    "celu": [(1.0,), (2.0,)],
    "power": [(-0.75, 1.0), (0.5, 0.0, 42.0), (3.0, 0.0), (-0.5, 0.0), (-1.0, 0.0), (-1.0, 1e-6, 2.0)],
    "clip": [(-1.0, 1.0), (0.0, 6.0), (0.0, math.inf), (-math.inf, math.inf)],
}
PLAIN = (
    *("sigmoid", "hard_swish", "softplus", "tanh", "gelu", "gelu_tanh", "silu", "mish", "abs", "exp", "sqrt"),
    "square",
)


@st.composite
def activations(draw) -> Case:
    function = draw(st.sampled_from([*PLAIN, *CONSTANTS, *BY_CHANNEL]))
    constants = draw(st.sampled_from(CONSTANTS.get(function, [()])))
    shape = tuple(draw(st.lists(sizes(5), min_size=1, max_size=3)))
    x = draw(tensors())
    same = draw(st.booleans())
    y = draw(tensors(float(x.scale) if same else None))
    if function == "clip" and same:
        y = TensorQuant(x.scale, min(x.zero_point, y.q_max), y.bits)
    scaled = function not in BY_CHANNEL and draw(st.booleans())
    affine = (1.0, 0.0)
    if function not in BY_CHANNEL:
        affine = draw(st.sampled_from([affine, (0.75, 0.0), (1.0, -0.3), (-1.25, 0.5)]))
    layer = Activation(
        name="y",
        inputs=("x",),
        shape=shape,
        function=function,
        constants=constants,
        affine=affine,
        scaled=scaled,
    )
    params: Params = {}
    if function in BY_CHANNEL or scaled:
        channels, rng = draw(st.sampled_from([1, shape[0]])), np.random.default_rng(draw(SEEDS))
        powers = np.exp2(rng.integers(-4, 5, (2, channels))).astype(np.float32)
        params["y"] = (
            dict(zip(SCALING, powers, strict=True))
            if scaled
            else {name: rng.normal(0, 0.5, channels).astype(np.float32) for name in ARRAYS[function]}
        )
    return draw(finish(layer, {"x": (x, shape)}, Quantization({"y": y}), params))


@st.composite
def windows(draw):
    """Kernel, strides, pads, height, width with no window that lies in the padding alone."""
    kernel = (draw(sizes(3)), draw(sizes(3)))
    strides = (draw(sizes(3)), draw(sizes(3)))
    pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    height, width = max(draw(sizes()), kernel[0]), max(draw(sizes()), kernel[1])
    out = tuple(
        out_size(size, kernel[i], strides[i], 1, pads[i] + pads[i + 2])
        for i, size in enumerate((height, width))
    )
    return kernel, strides, pads, height, width, out


@st.composite
def means(draw, whole: bool) -> Case:
    channels = draw(sizes(4))
    kernel, strides, pads, height, width, out = draw(windows())
    x, bits = draw(tensors()), draw(BITS)
    ratio = draw(st.sampled_from([1.0, 0.5, 0.25, 2.0])) if draw(st.booleans()) else draw(st.floats(0.01, 4))
    y = draw(tensors(float(x.scale) * 2.0 ** (x.bits - bits) / ratio, bits))
    if whole:
        layer = GlobalAvgPool(name="y", inputs=("x",), shape=(channels, 1, 1))
    else:
        layer = AvgPool(
            name="y", inputs=("x",), shape=(channels, *out), kernel_shape=kernel, strides=strides, pads=pads,
            count_include_pad=draw(st.booleans()),
        )  # fmt: skip
    return draw(finish(layer, {"x": (x, (channels, height, width))}, Quantization({"y": y})))


@st.composite
def maxpools(draw) -> Case:
    channels = draw(sizes(4))
    dilations = (draw(sizes(2)), draw(sizes(2)))
    kernel, strides, pads, height, width, _ = draw(windows())
    height, width = height + (kernel[0] - 1), width + (kernel[1] - 1)
    out = tuple(
        out_size(size, kernel[i], strides[i], dilations[i], pads[i] + pads[i + 2])
        for i, size in enumerate((height, width))
    )
    x = draw(tensors())
    layer = MaxPool(
        name="y", inputs=("x",), shape=(channels, *out), kernel_shape=kernel, strides=strides, pads=pads,
        dilations=dilations,
    )  # fmt: skip
    return draw(finish(layer, {"x": (x, (channels, height, width))}, Quantization({"y": x})))


@st.composite
def concats(draw) -> Case:
    shape = draw(st.lists(sizes(4), min_size=1, max_size=3))
    axis = draw(st.integers(0, len(shape) - 1))
    parts = draw(st.lists(sizes(3), min_size=1, max_size=3))
    x = draw(tensors())
    inputs = {
        f"x{i}": (x, tuple(part if place == axis else size for place, size in enumerate(shape)))
        for i, part in enumerate(parts)
    }
    shape[axis] = sum(parts)
    layer = Concat(name="y", inputs=tuple(inputs), shape=tuple(shape), axis=axis)
    return draw(finish(layer, inputs, Quantization({"y": x})))


@st.composite
def slices(draw) -> Case:
    shape = tuple(draw(st.lists(sizes(6), min_size=1, max_size=3)))
    bounds = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        if draw(st.booleans()):
            bounds.append((start, draw(st.integers(start + 1, size)), draw(sizes(3))))
        else:
            bounds.append((start, -size - 1, -draw(sizes(2))))
    out = tuple(len(range(size)[slice(*bound)]) for size, bound in zip(shape, bounds, strict=True))
    starts, stops, steps = zip(*bounds, strict=True)
    x = draw(tensors())
    layer = Slice(name="y", inputs=("x",), shape=out, starts=starts, stops=stops, steps=steps)
    return draw(finish(layer, {"x": (x, shape)}, Quantization({"y": x})))


@st.composite
def paddings(draw) -> Case:
    channels, height, width = draw(sizes(3)), draw(sizes(4)), draw(sizes(4))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    shape = (channels, height + pads[0] + pads[2], width + pads[1] + pads[3])
    x = draw(tensors())
    low, high = x.real_range
    values = tuple(
        draw(st.one_of(st.just(()), st.lists(st.floats(low, high), min_size=channels, max_size=channels)))
    )
    layer = Pad(name="y", inputs=("x",), shape=shape, pads=pads, values=values)
    return draw(finish(layer, {"x": (x, (channels, height, width))}, Quantization({"y": x})))


@st.composite
def reshapes(draw) -> Case:
    shape = draw(st.lists(sizes(4), min_size=1, max_size=3))
    total = math.prod(shape)
    divisor = draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
    out = draw(st.sampled_from([(total,), (divisor, total // divisor), (total // divisor, divisor, 1)]))
    x = draw(tensors())
    layer = Reshape(name="y", inputs=("x",), shape=out)
    return draw(finish(layer, {"x": (x, tuple(shape))}, Quantization({"y": x})))


@st.composite
def transposes(draw) -> Case:
    shape = draw(st.lists(sizes(4), min_size=1, max_size=3))
    permutation = tuple(draw(st.permutations(range(len(shape)))))
    x = draw(tensors())
    out = tuple(shape[axis] for axis in permutation)
    layer = Transpose(name="y", inputs=("x",), shape=out, permutation=permutation)
    return draw(finish(layer, {"x": (x, tuple(shape))}, Quantization({"y": x})))


@st.composite
def resizes(draw) -> Case:
    channels, height, width = draw(sizes(3)), draw(sizes(5)), draw(sizes(5))
    if draw(st.booleans()):
        factors = draw(sizes(3)), draw(sizes(3))
        out = (height * factors[0], width * factors[1])
    else:
        out = (draw(sizes(8)), draw(sizes(8)))
    x = draw(tensors())
    layer = Resize(
        name="y", inputs=("x",), shape=(channels, *out), mode=draw(st.sampled_from(["nearest", "bilinear"])),
        scales=(out[0] / height, out[1] / width),
        coordinates=draw(
            st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
        ),
        nearest_mode=draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])),
    )  # fmt: skip
    return draw(finish(layer, {"x": (x, (channels, height, width))}, Quantization({"y": x})))


CASES: dict[str, st.SearchStrategy[Case]] = {
    "conv": convs(),
    "deconv": deconvs(),
    "dense": denses(),
    "activation": activations(),
    "add": additions(Add),
    "sub": additions(Sub),
    "mul": products(),
    "matmul": matrix_products(),
    "maxpool": maxpools(),
    "avgpool": means(whole=False),
    "global_avgpool": means(whole=True),
    "concat": concats(),
    "slice": slices(),
    "pad": paddings(),
    "reshape": reshapes(),
    "transpose": transposes(),
    "resize": resizes(),
}
"""A strategy for every kind of accelerator layer, `input` aside."""
