"""Random networks of every layer that passes must see through, for properties that hold on all of them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from mz.engines.float_ort import FloatSession
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
    Reshape,
    Resize,
    Slice,
    Sub,
    Transpose,
)
from mz.graph.functions import ARRAYS, BY_CHANNEL
from mz.report.statistics import SnrMeter

CLIPS = [(0.0, math.inf), (0.0, 6.0), (-math.inf, math.inf), (-1.0, 1.0), (0.0, 0.75)]
STEPS = [
    "conv", "conv", "conv", "depthwise", "depthwise", "grouped", "deconv", "add", "sub", "concat", "leaky_relu",
    "prelu", "hard_swish", "maxpool", "avgpool", "gate", "shuffle", "slice", "resize", "pad",
    "attention", "attention",
]  # fmt: skip


class Builder:
    """Grows a graph layer by layer; weights are spread over magnitudes, so that there is something to equalize."""

    def __init__(self, seed: int, channels: int = 4, size: int = 6) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: list[Layer] = [Input(name="input_layer1", inputs=(), shape=(channels, size, size))]
        self.params: Params = {}

    @property
    def last(self) -> Layer:
        return self.layers[-1]

    def add(self, kind: type[Layer], inputs: list[Layer], shape: tuple[int, ...], **fields) -> Layer:
        name = f"{kind.prefix}{len(self.layers)}"
        layer = kind(name=name, inputs=tuple(x.name for x in inputs), shape=shape, **fields)
        self.layers.append(layer)
        return layer

    def weights(self, layer: Layer, shape: tuple[int, ...], channels: int, axis: int = 0) -> None:
        spread = np.exp(self.rng.normal(0, 1, channels))
        kernel = self.rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
        if shape[axis] == channels:
            kernel *= spread.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        self.params[layer.name] = {
            "kernel": kernel.astype(np.float32),
            "bias": (self.rng.normal(0.2, 0.5, channels) * spread).astype(np.float32),
        }

    def conv(self, x: Layer, channels: int, kernel: int = 1, groups: int = 1, clip=CLIPS[0]) -> Layer:
        pad = kernel // 2
        layer = self.add(
            Conv,
            [x],
            (channels, *x.shape[1:]),
            kernel_shape=(kernel, kernel),
            pads=(pad,) * 4,
            groups=groups,
            clip=clip,
        )
        self.weights(layer, (channels, x.shape[0] // groups, kernel, kernel), channels)
        return layer

    def finish(self, classes: int = 5) -> tuple[Graph, Params]:
        pooled = self.add(GlobalAvgPool, [self.last], (self.last.shape[0], 1, 1))
        flat = self.add(Reshape, [pooled], (pooled.shape[0],))
        dense = self.add(Dense, [flat], (classes,))
        self.weights(dense, (classes, flat.shape[0]), classes)
        return Graph("random", tuple(self.layers), (dense.name,)), self.params


def step(builder: Builder, what: str, pick: int, clip: tuple[float, float]) -> None:
    """Adds one layer (or a small block) on the last tensor; `pick` decides whatever is left to decide."""
    x, b = builder.last, builder
    c, h, w = x.shape
    same = [layer for layer in b.layers if layer.shape == x.shape]
    other = same[pick % len(same)]
    maps = [layer for layer in b.layers if layer.shape[1:] == x.shape[1:]]
    if what == "conv":
        b.conv(x, 2 * (1 + pick % 3), (1, 3)[pick % 2], clip=clip)
    elif what == "depthwise":
        b.conv(x, c, (1, 3)[pick % 2], groups=c, clip=clip)
    elif what == "grouped" and c % 2 == 0:
        b.conv(x, 4, 3, groups=2, clip=clip)
    elif what == "deconv":
        layer = b.add(Deconv, [x], (4, h, w), kernel_shape=(3, 3), pads=(1, 1, 1, 1), clip=clip)
        b.weights(layer, (c, 4, 3, 3), 4, axis=1)
    elif what == "add":
        b.add(Add, [x, other], x.shape, clip=clip)
    elif what == "sub" and other is not x:
        b.add(Sub, [x, other], x.shape, clip=clip)
    elif what == "concat" and c < 16:
        other = maps[pick % len(maps)]
        b.add(Concat, [x, other], (c + other.shape[0], h, w))
    elif what == "leaky_relu":
        b.add(Activation, [x], x.shape, function="leaky_relu", constants=(0.1,))
    elif what in BY_CHANNEL:
        layer = b.add(Activation, [x], x.shape, function=what)
        b.params[layer.name] = {name: b.rng.uniform(-0.5, 0.5, c).astype(np.float32) for name in ARRAYS[what]}
    elif what == "hard_swish":
        b.add(Activation, [x], x.shape, function="hard_swish")
    elif what == "maxpool":
        b.add(MaxPool, [x], x.shape, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    elif what == "avgpool":
        b.add(AvgPool, [x], x.shape, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    elif what == "gate":
        pooled = b.add(GlobalAvgPool, [x], (c, 1, 1))
        squeezed = b.conv(pooled, 2, clip=(0.0, math.inf))
        gate = b.add(Activation, [b.conv(squeezed, c, clip=CLIPS[2])], (c, 1, 1), function="sigmoid")
        b.add(Mul, [x, gate], x.shape)
    elif what == "attention" and h * w <= 64:
        tokens = b.add(Reshape, [x], (c, h * w))
        query = b.add(
            Transpose, [b.add(Reshape, [b.conv(x, c, clip=clip)], (c, h * w))], (h * w, c), permutation=(1, 0)
        )
        scores = b.add(MatMul, [query, tokens], (h * w, h * w), factor=1 / math.sqrt(c))
        weights = b.add(Activation, [scores], scores.shape, function="sigmoid")
        values = [weights, query] if pick % 2 else [tokens, weights]
        mixed = b.add(MatMul, values, (h * w, c) if pick % 2 else (c, h * w), factor=1 / (h * w))
        turned = b.add(Transpose, [mixed], (c, h * w), permutation=(1, 0)) if pick % 2 else mixed
        b.add(Reshape, [turned], x.shape)
    elif what == "shuffle" and c % 2 == 0:
        split = b.add(Reshape, [x], (2, c // 2, h, w))
        turned = b.add(Transpose, [split], (c // 2, 2, h, w), permutation=(1, 0, 2, 3))
        b.add(Reshape, [turned], (c, h, w))
    elif what == "slice" and c > 2:
        b.add(Slice, [x], (c // 2, h, w), starts=(c % 2, 0, 0), stops=(c % 2 + c // 2, h, w), steps=(1, 1, 1))
    elif what == "resize" and h < 12:
        b.add(Resize, [x], (c, 2 * h, 2 * w), mode=("nearest", "bilinear")[pick % 2], scales=(2.0, 2.0))
    elif what == "pad" and h < 12:
        values = tuple(0.25 * (channel - pick) for channel in range(c)) if pick % 2 else ()
        b.add(Pad, [x], (c, h + 1, w + 1), pads=(1, 0, 0, 1), values=values)


@st.composite
def networks(draw, steps: list[str] | None = None) -> tuple[Graph, Params]:
    """A graph with its float parameters; begins with a convolution and ends with a classifier."""
    builder = Builder(draw(st.integers(0, 2**32 - 1)))
    step(builder, "conv", draw(st.integers(0, 5)), draw(st.sampled_from(CLIPS)))
    for what in draw(st.lists(st.sampled_from(steps or STEPS), min_size=1, max_size=7)):
        step(builder, what, draw(st.integers(0, 11)), draw(st.sampled_from(CLIPS)))
    return builder.finish()


def images(graph: Graph, count: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {x.name: rng.normal(0, 1, (count, *x.shape)).astype(np.float32) for x in graph.inputs}


def output_db(graph: Graph, params: Params, other: Graph, other_params: Params, feeds: dict) -> float:
    """How well two networks agree on their outputs, signal over difference in dB."""
    expected, found = FloatSession(graph, params).run(feeds), FloatSession(other, other_params).run(feeds)
    meter = SnrMeter()
    for one, two in zip(graph.outputs, other.outputs, strict=True):
        meter.update(expected[one], found[two])
    return meter.db
