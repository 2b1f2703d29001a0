"""Every layer kind comes out of some ONNX operator, and computes the same in float."""

from __future__ import annotations

import numpy as np
import pytest
from tests.parser.networks import op, weights

from mz.graph import LAYER_KINDS

PADS = np.asarray([0, 0, 1, 1, 0, 0, 1, 1])

PRODUCERS = {
    "input": (op("Relu", "x"), {}),
    "conv": (op("Conv", "x w"), {"w": weights(5, 4, 3, 3)}),
    "deconv": (op("ConvTranspose", "x w"), {"w": weights(4, 5, 3, 3)}),
    "dense": (op("MatMul", "x w"), {"w": weights(7, 5)}),
    "activation": (op("Sigmoid", "x"), {}),
    "add": (op("Add", "x x"), {}),
    "sub": (op("Sub", "x z"), {}),
    "mul": (op("Mul", "x x"), {}),
    "matmul": (op("MatMul", "x z"), {}),
    "maxpool": (op("MaxPool", "x", kernel_shape=[2, 2]), {}),
    "avgpool": (op("AveragePool", "x", kernel_shape=[2, 2]), {}),
    "global_avgpool": (op("GlobalAveragePool", "x"), {}),
    "concat": (op("Concat", "x z", axis=1), {}),
    "slice": (op("Gather", "x i", axis=1), {"i": np.asarray([1, 2])}),
    "pad": (op("Pad", "x p"), {"p": PADS}),
    "reshape": (op("Flatten", "x"), {}),
    "transpose": (op("Transpose", "x", perm=[0, 2, 3, 1]), {}),
    "resize": (op("Resize", "x _ s"), {"s": np.asarray([1, 1, 2, 2], np.float32)}),
    "softmax": (op("Softmax", "x"), {}),
    "host_op": (op("Div", "x z"), {}),
}


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_every_kind_is_produced_and_lowered(proven, kind) -> None:
    assert kind in PRODUCERS, f"no ONNX operator becomes {kind!r}: see docs/adding-a-layer.md"
    node, constants = PRODUCERS[kind]
    shape = ["N", 4, 7, 7] if kind == "matmul" else ["N", 4, 6, 7]
    inputs = {name: shape for name in "xz" if name in node.input}
    result = proven(node, inputs, constants)
    assert kind in {layer.kind for layer in result.graph.layers}
