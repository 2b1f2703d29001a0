"""Small networks, statistics and integers that several tests of the quantizer share."""

from __future__ import annotations

import numpy as np

from mz.graph import (
    Add,
    Conv,
    Deconv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MaxPool,
    Params,
    Reshape,
    Weighted,
)
from mz.quantize import Statistics, TensorStatistics

RELU = (0.0, float("inf"))


def statistics_of(values) -> TensorStatistics:
    """Statistics of one tensor that held these values."""
    found = TensorStatistics()
    found.update(np.asarray(values, np.float32))
    return found


def uniform_statistics(bounds: dict[str, tuple[float, float]]) -> Statistics:
    """For each tensor, values spread evenly between two bounds."""
    return {name: statistics_of(np.linspace(low, high, 1001)) for name, (low, high) in bounds.items()}


def layer_and_kernel(kind: str, rng: np.random.Generator) -> tuple[Weighted, tuple[int, ...], np.ndarray]:
    """A linear layer named `y` over `x`, the shape of `x`, and a float32 kernel; shapes and strides differ by axis."""
    if kind == "dense":
        layer: Weighted = Dense(name="y", inputs=("x",), shape=(5,))
        return layer, (7,), _kernel(rng, 5, 7)
    if kind == "dense_rows":
        return Dense(name="y", inputs=("x",), shape=(3, 5)), (3, 7), _kernel(rng, 5, 7)
    if kind.startswith("deconv"):
        groups = 2 if kind == "deconv_groups" else 1
        layer = Deconv(
            name="y", inputs=("x",), shape=(3 * groups, 9, 12), kernel_shape=(3, 2), strides=(2, 3), pads=(1, 1, 0, 0),
            output_padding=(1, 2), groups=groups,
        )  # fmt: skip
        return layer, (4, 4, 4), _kernel(rng, 4, 3, 3, 2)
    channels, group_in, out, groups = {
        "conv": (3, 3, 4, 1), "grouped": (6, 3, 4, 2), "depthwise": (4, 1, 4, 4), "multiplied": (3, 1, 6, 3),
    }[kind]  # fmt: skip
    layer = Conv(
        name="y", inputs=("x",), shape=(out, 4, 6), kernel_shape=(3, 2), strides=(2, 1), dilations=(1, 2),
        pads=(1, 0, 2, 1), groups=groups,
    )  # fmt: skip
    return layer, (channels, 7, 7), _kernel(rng, out, group_in, 3, 2)


LINEAR_KINDS = (
    *("conv", "grouped", "depthwise", "multiplied"),
    *("deconv", "deconv_groups", "dense", "dense_rows"),
)


def residual_network(seed: int = 0) -> tuple[Graph, Params]:
    """[3, 8, 8] -> conv, depthwise, conv with a residual, pool, transposed conv, mean, dense [5]; random weights."""
    rng = np.random.default_rng(seed)
    layers: tuple[Layer, ...] = (
        Input(name="x", inputs=(), shape=(3, 8, 8)),
        _conv("conv1", "x", (8, 8, 8), 3, clip=RELU),
        _conv("dw1", "conv1", (8, 8, 8), 3, groups=8, clip=RELU),
        _conv("conv2", "dw1", (8, 8, 8), 1),
        Add(name="add1", inputs=("conv1", "conv2"), shape=(8, 8, 8), clip=RELU),
        MaxPool(name="pool1", inputs=("add1",), shape=(8, 4, 4), kernel_shape=(2, 2), strides=(2, 2)),
        Deconv(
            name="deconv1", inputs=("pool1",), shape=(6, 8, 8), kernel_shape=(2, 2), strides=(2, 2), groups=2, clip=RELU
        ),
        GlobalAvgPool(name="mean1", inputs=("deconv1",), shape=(6, 1, 1)),
        Reshape(name="flat1", inputs=("mean1",), shape=(6,)),
        Dense(name="fc1", inputs=("flat1",), shape=(5,)),
    )  # fmt: skip
    shapes = {
        "conv1": (8, 3, 3, 3), "dw1": (8, 1, 3, 3), "conv2": (8, 8, 1, 1), "deconv1": (8, 3, 2, 2), "fc1": (5, 6),
    }  # fmt: skip
    channels = {"deconv1": 6}
    params = {
        name: {
            "kernel": _kernel(rng, *shape),
            "bias": rng.normal(0, 0.1, channels.get(name, shape[0])).astype(np.float32),
        }
        for name, shape in shapes.items()
    }
    return Graph("residual", layers, ("fc1",)), params


def images(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Smooth random images [count, 3, 8, 8] for `residual_network`: neighbouring pixels are alike, as in real ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1, (count, 3, 10, 10)).astype(np.float32)
    return {"x": (x[:, :, :8, :8] + x[:, :, 1:9, :8] + x[:, :, :8, 1:9] + x[:, :, 2:, 2:]) / 4}


def _conv(name: str, source: str, shape: tuple[int, ...], kernel: int, groups: int = 1, **fields) -> Conv:
    return Conv(
        name=name, inputs=(source,), shape=shape, kernel_shape=(kernel, kernel), pads=(kernel // 2,) * 4, groups=groups,
        **fields,
    )  # fmt: skip


def _kernel(rng: np.random.Generator, *shape: int) -> np.ndarray:
    fan_in = int(np.prod(shape[1:]))
    return rng.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
