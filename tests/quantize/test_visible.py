"""What functions can tell apart, and that statistics see no more of a tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mz.graph import Activation, Conv, Graph, Input, MaxPool, Reshape, Resize
from mz.quantize import collect, scaled_ends
from mz.quantize.visible import visible_ends

SHAPE = (2, 1, 4)
POWERS = {"factor": np.float32([1, 0.25]), "gain": np.float32([1, 2])}


def network(*readers: Activation, more: tuple = ()) -> Graph:
    x = Input(name="x", inputs=(), shape=SHAPE)
    conv = Conv(name="conv", inputs=("x",), shape=SHAPE, kernel_shape=(1, 1), groups=2)
    return Graph("net", (x, conv, *readers, *more), tuple(layer.name for layer in (*readers, *more)))


def reader(function: str, name: str = "y", scaled: bool = False, constants: tuple = ()) -> Activation:
    return Activation(
        name=name, inputs=("conv",), shape=SHAPE, function=function, scaled=scaled, constants=constants
    )


@pytest.mark.parametrize(
    ("function", "constants", "low", "high"),
    [
        ("hard_swish", (), -3, math.inf),
        ("hard_sigmoid", (0.2, 0.5), -2.5, 2.5),
        ("clip", (-1.0, 6.0), -1, 6),
    ],
)
def test_ends_are_where_a_function_becomes_constant(function, constants, low, high) -> None:
    graph = network(reader(function, constants=constants))
    found = visible_ends(graph, {})["conv"]
    np.testing.assert_allclose(found, [low, high], atol=2e-3)
    assert scaled_ends(graph, {}) == {}


@pytest.mark.parametrize("function", ["gelu_tanh", "leaky_relu", "exp", "square", "power"])
def test_what_varies_far_out_is_not_cut(function) -> None:
    constants = {"leaky_relu": (0.1,), "power": (-1.0, 0.0)}.get(function, ())
    low, high = visible_ends(network(reader(function, constants=constants)), {}).get(
        "conv", (-math.inf, math.inf)
    )
    assert (low < -5 and high == math.inf) or function in ("exp", "power")


def test_other_readers_see_everything() -> None:
    conv = Conv(name="next", inputs=("conv",), shape=SHAPE, kernel_shape=(1, 1), groups=2)
    assert visible_ends(network(reader("hard_swish"), more=(conv,)), {}) == {}


@pytest.mark.parametrize(
    ("move", "seen"),
    [
        (Reshape(name="moved", inputs=("conv",), shape=SHAPE), True),
        (MaxPool(name="moved", inputs=("conv",), shape=SHAPE, kernel_shape=(1, 1), strides=(1, 1)), True),
        (Resize(name="moved", inputs=("conv",), shape=SHAPE, mode="nearest", scales=(1, 1)), True),
        (Resize(name="moved", inputs=("conv",), shape=SHAPE, mode="bilinear", scales=(1, 1)), False),
    ],
    ids=["reshape", "max pool", "nearest", "bilinear"],
)
def test_what_only_moves_shows_what_its_readers_see(move, seen) -> None:
    x, conv = network().layers[:2]

    def ends(scaled: bool) -> dict:
        swish = Activation(name="y", inputs=("moved",), shape=SHAPE, function="hard_swish", scaled=scaled)
        return visible_ends(Graph("net", (x, conv, move, swish), ("y",)), {"y": POWERS})

    assert list(ends(scaled=False)) == (["conv", "moved"] if seen else ["moved"])
    np.testing.assert_allclose(ends(scaled=False)["moved"], [-3, math.inf], atol=2e-3)
    assert list(ends(scaled=True)) == ["moved"]  # channels may have moved


def test_the_widest_of_two_readers_counts_channel_by_channel() -> None:
    graph = network(reader("hard_swish", scaled=True), reader("hard_sigmoid", "z", constants=(0.1, 0.5)))
    low, high = scaled_ends(graph, {"y": POWERS})["conv"]
    np.testing.assert_allclose(low.reshape(-1), [-5, -12], atol=2e-3)
    assert np.isposinf(high).all()


def test_statistics_see_what_counts_and_leave_the_tensors_as_they_are() -> None:
    """Channel 1 counts down to -12, and all of the largest values."""
    ends = scaled_ends(network(reader("hard_swish", scaled=True)), {"y": POWERS})
    x = np.float32([[-20, -2, 1, 5000], [-30, -11, 0, 9]]).reshape(1, *SHAPE)
    kept = x.copy()

    class Session:
        def run(self, feeds):
            return {"conv": feeds["x"]}

    found = collect(Session(), [{"x": x}], 32, ends=ends)["conv"]
    assert (found.low, found.high) == (pytest.approx(-12, abs=0.01), 5000)
    np.testing.assert_array_equal(x, kept)
