"""Activation functions in the integer ONNX: float forms only where they are the table, Gather elsewhere."""

from __future__ import annotations

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
    (table,) = layer_constants(graph, layer, {}, quantization).table
    return graph, layer, quantization, table


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
        graph, layer, quantization, table = case(function, x, y)
        feeds = {"x": x.dequantize(np.arange(256))[None]}
        exact = float_form_is_exact(layer, x, y, table)
        got = IntegerOrtSession(graph, {}, quantization, threads=1).run(feeds)["y"][0]
        np.testing.assert_array_equal(got, table)
        if np.unique(table).size > 2:  # no plain clip
            assert ("Gather" in operators(graph, quantization)) == (not exact)
        proven += exact
    assert proven >= 55


def test_a_float_form_that_is_not_the_table_is_refused():
    x, y = TensorQuant(np.float32(0.05), 100, 8), TensorQuant(np.float32(0.021), 10, 8)
    _, layer, _, table = case("hard_swish", x, y)
    assert float_form_is_exact(layer, x, y, table)
    for q in range(256):
        other = table.copy()
        other[q] ^= 1
        assert not float_form_is_exact(layer, x, y, other)


def test_a_tie_that_an_ulp_could_move_is_left_to_the_table():
    """v / 8 + 1/2 at v = 1 is 2.5 steps of 1/4: what a fused multiply-add may or may not round decides."""
    x, y = TensorQuant(np.float32(1), 0, 8), TensorQuant(np.float32(0.25), 0, 8)
    graph, layer, quantization, table = case("hard_sigmoid", x, y, (0.125, 0.5))
    assert not float_form_is_exact(layer, x, y, table)
    assert "Gather" in operators(graph, quantization)


def test_a_function_that_moves_nothing_is_a_clip():
    x = TensorQuant(np.float32(0.05), 20, 8)
    graph, _, quantization, table = case("clip", x, x, (0.0, 6.0))
    assert (table.min(), table.max()) == (20, 140)
    assert operators(graph, quantization) == {"QuantizeLinear", "Clip", "Identity"}
