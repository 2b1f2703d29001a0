"""Convolutions and pools over windows of an image that stand where the batch is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, network, op, prove, weights

from mz.errors import UserError

MAPS, CHANNELS = 3, 4


def windows(node) -> list:
    """`node` over MAPS windows, which stand side by side in an image [1, CHANNELS, rows, MAPS * columns]."""
    return [
        *(op("Reshape", "x apart", "a"), op("Transpose", "a", "t", perm=[0, 3, 1, 2, 4])),
        *(op("Reshape", "t maps", "w"), node),
    ]


def shapes(rows: int, columns: int) -> dict[str, np.ndarray]:
    return {
        "apart": np.asarray([1, CHANNELS, rows, MAPS, columns]),
        "maps": np.asarray([MAPS, CHANNELS, rows, columns]),
    }


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_convolutions(data) -> None:
    rows, columns = (data.draw(st.integers(5, 8)) for _ in range(2))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(2)]
    groups = data.draw(st.sampled_from([1, 2, CHANNELS]))
    attributes = {
        "group": groups,
        "strides": [data.draw(st.integers(1, 4)) for _ in range(2)],
        "dilations": [data.draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [data.draw(st.integers(0, 2)) for _ in range(4)],
    }
    constants = shapes(rows, columns) | {
        "k": weights(CHANNELS, CHANNELS // groups, *kernel),
        "b": weights(CHANNELS),
    }
    nodes = windows(op("Conv", "w k b", **attributes))
    model = network(nodes, {"x": ["N", CHANNELS, rows, MAPS * columns]}, constants)
    with tempfile.TemporaryDirectory() as folder:
        result = prove(model, Path(folder))
    assert kinds(result).count("conv") == 1 and result.graph.coverage().layers_percent == 100


@pytest.mark.parametrize(
    "node",
    [
        op("MaxPool", "w", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
        op("AveragePool", "w", kernel_shape=[2, 2], strides=[2, 1]),
        op("GlobalAveragePool", "w"),
        op("GlobalMaxPool", "w"),
        op("Conv", "w k", auto_pad="SAME_UPPER", strides=[2, 2]),
    ],
    ids=lambda node: node.op_type,
)
def test_pools_and_automatic_pads(proven, node) -> None:
    constants = shapes(6, 7) | {"k": weights(5, CHANNELS, 3, 3)}
    result = proven(windows(node), ["N", CHANNELS, 6, MAPS * 7], constants)
    assert result.graph.coverage().layers_percent == 100


def test_transposed_convolutions_are_refused(proven) -> None:
    nodes = windows(op("ConvTranspose", "w k"))
    with pytest.raises(UserError, match=r"The input is a map .* \(here shape \[3, 4, 6, 7\]\)"):
        proven(nodes, ["N", CHANNELS, 6, MAPS * 7], shapes(6, 7) | {"k": weights(CHANNELS, 2, 3, 3)})
