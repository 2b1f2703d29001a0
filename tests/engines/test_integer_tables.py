"""Activation functions in the integer ONNX: float forms only where they are the table, Gather elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mz.emulator import layer_constants
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_integer import integer_model
from mz.engines.lower_integer_tables import float_form_is_exact
from mz.graph import Activation, Graph, Input, Quantization, TensorQuant

FUNCTIONS = {"hard_swish": (), "hard_sigmoid": (1 / 6, 0.5), "leaky_relu": (0.1,)}


def case(function, x, y, constants=None):
    constants = FUNCTIONS[function] if constants is None else constants
    layer = Activation(name="y", inputs=("x",), shape=(1 << x.bits,), function=function, constants=constants)
    graph = Graph("g", (Input(name="x", inputs=(), shape=layer.shape), layer), ("y",))
    quantization = Quantization({"x": x, "y": y})
    return graph, layer, quantization, layer_constants(graph, layer, {}, quantization)


def operators(graph, quantization):
    return {node.op_type for node in integer_model(graph, {}, quantization).graph.node}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_input_integer_gives_the_tables_integer(function):
    """60 random pairs of scales, all 256 integers each; the float form serves nearly all of them."""
    rng = np.random.default_rng(0)
    proven = 0
    for _ in range(60):
        x = TensorQuant(np.float32(rng.uniform(0.01, 0.1)), int(rng.integers(0, 256)), 8)
        y = TensorQuant(
            np.float32(rng.uniform(0.004, 0.05)), int(rng.integers(0, 256)), int(rng.choice([4, 8]))
        )
        graph, layer, quantization, constants = case(function, x, y)
        (table,) = constants.table
        feeds = {"x": x.dequantize(np.arange(256))[None]}
        exact = float_form_is_exact(layer, x, y, constants)
        got = IntegerOrtSession(graph, {}, quantization, threads=1).run(feeds)["y"][0]
        np.testing.assert_array_equal(got, table)
        if np.unique(table).size > 2:  # no plain clip
            assert ("Gather" in operators(graph, quantization)) == (not exact)
        proven += exact
    assert proven >= 55


def test_a_float_form_that_is_not_the_table_is_refused():
    x, y = TensorQuant(np.float32(0.05), 100, 8), TensorQuant(np.float32(0.021), 10, 8)
    _, layer, _, constants = case("hard_swish", x, y)
    assert float_form_is_exact(layer, x, y, constants)
    for q in range(256):
        other = constants.table.copy()
        other[0, q] ^= 1
        assert not float_form_is_exact(layer, x, y, dataclasses.replace(constants, table=other))


def test_a_tie_that_an_ulp_could_move_is_left_to_the_table():
    """v / 8 + 1/2 at v = 1 is 2.5 steps of 1/4: what a fused multiply-add may or may not round decides."""
    x, y = TensorQuant(np.float32(1), 0, 8), TensorQuant(np.float32(0.25), 0, 8)
    graph, layer, quantization, constants = case("hard_sigmoid", x, y, (0.125, 0.5))
    assert not float_form_is_exact(layer, x, y, constants)
    assert "Gather" in operators(graph, quantization)


def test_a_function_that_moves_nothing_is_a_clip():
    x = TensorQuant(np.float32(0.05), 20, 8)
    graph, _, quantization, constants = case("clip", x, x, (0.0, 6.0))
    assert (constants.table.min(), constants.table.max()) == (20, 140)
    assert operators(graph, quantization) == {"QuantizeLinear", "Clip", "Identity"}


@pytest.mark.parametrize("affine", [(1.0, 0.0), (-0.6, 0.37), (2.0, 0.0), (1.0, -0.25)])
@pytest.mark.parametrize("function", ["hard_swish", "hard_sigmoid"])
def test_powers_of_two_by_channel_keep_the_float_form(function, affine):
    """Nine channels, four of them alike: six tables, all 256 integers each."""
    x, y = TensorQuant(np.float32(0.0471), 100, 8), TensorQuant(np.float32(0.0213), 10, 8)
    layer = Activation(
        name="y",
        inputs=("x",),
        shape=(9, 16, 16),
        function=function,
        constants=FUNCTIONS[function],
        affine=affine,
        scaled=True,
    )
    graph = Graph("g", (Input(name="x", inputs=(), shape=layer.shape), layer), ("y",))
    powers = np.exp2([[0, 0, 0, 0, -1, -2, -3, -4, 1], [0, 0, 0, 0, 1, 1, 2, 4, 0]]).astype(np.float32)
    params = {"y": {"factor": powers[0], "gain": powers[1]}}
    quantization = Quantization({"x": x, "y": y})
    constants = layer_constants(graph, layer, params, quantization)
    assert len(constants.table) == 6 and len(set(constants.choice[:4])) == 1
    integers = np.broadcast_to(np.arange(256).reshape(16, 16), layer.shape)
    got = IntegerOrtSession(graph, params, quantization, threads=1).run({"x": x.dequantize(integers)[None]})
    np.testing.assert_array_equal(got["y"][0].reshape(9, 256), constants.by_channel())
    assert float_form_is_exact(layer, x, y, constants)
    assert "Gather" not in {node.op_type for node in integer_model(graph, params, quantization).graph.node}
