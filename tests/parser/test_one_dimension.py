"""Networks over one axis [N, C, L]: convolutions and pools as those over maps of one row."""

from __future__ import annotations

import pytest
from tests.parser.networks import kinds, op, weights

X = ["N", 4, 9]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 2], "strides": [2]},
        {"dilations": [2], "kernel_shape": [3]},
        {"auto_pad": "SAME_UPPER", "strides": [2]},
    ],
)
def test_convolution(proven, attributes) -> None:
    constants = {"w": weights(3, 4, 3), "b": weights(3)}
    assert kinds(proven(op("Conv", "x w b", **attributes), X, constants)) == ["reshape", "conv", "reshape"]


def test_transposed_convolution(proven) -> None:
    node = op("ConvTranspose", "x w", strides=[2], output_padding=[1], pads=[1, 0])
    assert kinds(proven(node, X, {"w": weights(4, 2, 3)})) == ["reshape", "deconv", "reshape"]


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (op("MaxPool", "x", kernel_shape=[3], strides=[2], pads=[1, 1]), "maxpool"),
        (op("AveragePool", "x", kernel_shape=[2], strides=[2], ceil_mode=1), "avgpool"),
        (op("GlobalAveragePool", "x"), "global_avgpool"),
        (op("GlobalMaxPool", "x"), "maxpool"),
    ],
)
def test_pools(proven, node, kind) -> None:
    assert kinds(proven(node, X)) == ["reshape", kind, "reshape"]


def test_a_network_is_maps_from_end_to_end(proven) -> None:
    """BatchNormalization and ReLU go into the convolution behind the reshape; the reshapes between cancel."""
    nodes = [
        *(op("Conv", "x w", "c"), op("BatchNormalization", "c s b m v", "n"), op("Relu", "n", "r")),
        *(op("Conv", "r w2", "d"), op("Relu", "d", "e"), op("GlobalAveragePool", "e", "g")),
        *(op("Flatten", "g", "f"), op("Gemm", "f k")),
    ]
    constants = {"w": weights(5, 4, 3), "w2": weights(6, 5, 3), "k": weights(6, 2)}
    constants |= {name: abs(weights(5, seed=i)) for i, name in enumerate("sbmv")}
    assert kinds(proven(nodes, X, constants)) == [
        *("reshape", "conv", "conv", "global_avgpool", "reshape", "dense"),
    ]
