"""Normalizations by the image's own mean and variance: written out in layers that integers do."""

from __future__ import annotations

import numpy as np
import pytest
from tests.parser.networks import kinds, op, weights

X = ["N", 6, 4, 5]
OVER_MAP = ["avgpool", "sub", "mul", "avgpool", "activation", "mul"]
OVER_CHANNELS = ["conv", "sub", "mul", "conv", "activation", "mul"]


def without_moves(result) -> list[str]:
    assert not any(layer.host for layer in result.graph.layers)
    found = [kind for kind in kinds(result) if kind not in ("reshape", "transpose")]
    return ["avgpool" if kind == "global_avgpool" else kind for kind in found]


@pytest.mark.parametrize(("size", "channels"), [(5, 8), (7, 8), (3, 2)])
def test_local_response_normalization_stays_on_the_accelerator(proven, size, channels) -> None:
    nodes = [op("LRN", "x", "l", size=size, alpha=0.7, beta=0.75, bias=2.0), op("Conv", "l w")]
    result = proven(nodes, ["N", channels, 3, 4], {"w": weights(2, channels, 1, 1)})
    assert kinds(result) == ["mul", "conv", "activation", "mul", "conv"]
    assert not any(layer.host for layer in result.graph.layers)


@pytest.mark.parametrize(("shape", "axis"), [([5], -1), ([4, 5], 2), ([6, 4, 5], 1), ([1], -1)])
@pytest.mark.parametrize("inputs", ["x s b", "x s"])
def test_layer_normalization(proven, inputs, shape, axis) -> None:
    constants = {"s": weights(*shape), "b": weights(*shape, seed=1), "w": weights(4, 6, 3, 1)}
    x = [*X[:-1], shape[-1]]
    nodes = [op("LayerNormalization", inputs, "l", axis=axis, epsilon=0.1), op("Conv", "l w")]
    result = proven(nodes, x, constants)
    assert without_moves(result)[:6] == (OVER_CHANNELS if axis == -1 else OVER_MAP)


def test_layer_normalization_of_a_row_of_tokens(proven) -> None:
    nodes = [op("LayerNormalization", "x s b", "l"), op("MatMul", "l w")]
    constants = {"s": weights(8), "b": weights(8, seed=1), "w": weights(8, 3)}
    result = proven(nodes, ["N", 7, 8], constants)
    assert without_moves(result) == [*OVER_MAP, "dense"], "scale and bias go into the weights"


def test_layer_normalization_of_channels(proven) -> None:
    """As ConvNeXt has it: between two transposes, which go; scale and bias go into the convolution."""
    nodes = [
        op("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        op("LayerNormalization", "t s b", "l"),
        op("Transpose", "l", "u", perm=[0, 3, 1, 2]),
        op("Conv", "u w"),
    ]
    constants = {"s": weights(6), "b": weights(6, seed=1), "w": weights(4, 6, 1, 1)}
    assert kinds(proven(nodes, X, constants)) == [*OVER_CHANNELS, "conv"]


def test_instance_normalization(proven) -> None:
    constants = {"s": weights(6), "b": weights(6, seed=1)}
    assert without_moves(proven(op("InstanceNormalization", "x s b"), X, constants)) == [*OVER_MAP, "conv"]
    row = proven(op("InstanceNormalization", "x s b", epsilon=0.2), ["N", 6, 9], constants)
    assert without_moves(row) == [*OVER_MAP, "conv"]


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(proven, groups, opset) -> None:
    size = groups if opset < 21 else 6
    nodes = [op("GroupNormalization", "x s b", num_groups=groups, epsilon=1e-3)]
    result = proven(nodes, X, {"s": weights(size), "b": weights(size, seed=1)}, opset=opset)
    assert without_moves(result) == [*OVER_MAP, "conv"]


def test_one_group_as_pytorch_exports_it(proven) -> None:
    nodes = [
        op("Reshape", "x r", "a"),
        op("InstanceNormalization", "a one zero", "i"),
        op("Reshape", "i q", "n"),
        op("Mul", "n s", "m"),
        op("Add", "m b", "c"),
        op("Conv", "c w"),
    ]
    constants = {
        "r": np.asarray([0, 1, -1]),
        "q": np.asarray([0, 6, 4, 5]),
        "one": weights(1) * 0 + 1,
        "zero": weights(1) * 0,
    }
    constants |= {"s": weights(6, 1, 1), "b": weights(6, 1, 1, seed=1), "w": weights(4, 6, 1, 1)}
    assert without_moves(proven(nodes, X, constants)) == [*OVER_MAP, "conv"]
