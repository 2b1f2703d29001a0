"""Output activations: put on, exchanged, taken away, and never piled up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tests.optimize.networks import Builder, images

from mz.engines.float_ort import FloatSession
from mz.errors import UserError
from mz.graph import Activation, Conv, Graph, Params, Softmax
from mz.graph.layers import UNBOUNDED
from mz.optimize import added_activations, change_output_activation
from mz.script.changes import OUTPUT_ACTIVATIONS

FUNCTIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x < 0, 0.01 * x, x),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
}


def heads() -> tuple[Graph, Params]:
    """One stem and two outputs."""
    b = Builder(0)
    stem = b.conv(b.last, 4, clip=(0.0, math.inf))
    first, second = (b.conv(stem, channels, clip=UNBOUNDED) for channels in (3, 5))
    return Graph("heads", tuple(b.layers), (first.name, second.name)), b.params


def run(graph: Graph, params: Params) -> list[np.ndarray]:
    found = FloatSession(graph, params).run(images(graph))
    return [found[name] for name in graph.outputs]


def test_every_function_that_scripts_know_is_tested() -> None:
    assert set(FUNCTIONS) == set(OUTPUT_ACTIVATIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_one_output_and_of_all(function) -> None:
    graph, params = heads()
    bare = run(graph, params)
    one = change_output_activation(graph, function=function, layer=graph.outputs[0])
    first, second = run(one, params)
    assert first == pytest.approx(FUNCTIONS[function](bare[0]), abs=1e-5)
    assert (second == bare[1]).all()
    every = run(change_output_activation(graph, function=function), params)
    assert all(
        found == pytest.approx(FUNCTIONS[function](x), abs=1e-5) for found, x in zip(every, bare, strict=True)
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("before", FUNCTIONS)
def test_what_was_there_is_exchanged_and_the_same_thing_twice_is_once(function, before) -> None:
    graph, _ = heads()
    name = graph.outputs[0]
    earlier = change_output_activation(graph, function=before, layer=name)
    once = change_output_activation(earlier, function=function, layer=name)
    assert change_output_activation(once, function=function, layer=name) == once
    assert once == change_output_activation(graph, function=function, layer=name)
    assert added_activations(once, function) == ([] if function in ("relu", "linear") else [once.outputs[0]])


def test_a_relu_joins_the_layer_and_softmax_goes_to_the_host() -> None:
    graph, _ = heads()
    joined = change_output_activation(graph, function="relu")
    assert len(joined.layers) == len(graph.layers)
    assert all(isinstance(joined[name], Conv) for name in joined.outputs)
    scores = change_output_activation(graph, function="softmax", layer=graph.outputs[1])
    last = scores[scores.outputs[1]]
    assert isinstance(last, Softmax) and last.host and last.axis == 0
    assert scores.accelerator_outputs() == graph.outputs


def test_a_layer_that_others_read_keeps_its_function() -> None:
    graph, _ = heads()
    stem = graph.layers[1].name
    graph = Graph("tapped", graph.layers, (*graph.outputs, stem))
    with pytest.raises(
        UserError, match=f"the activation function of {stem} cannot change, as conv2, conv3 reads"
    ):
        change_output_activation(graph, function="sigmoid", layer=stem)
    more = change_output_activation(graph, function="sigmoid", layer="conv2")
    assert isinstance(more[more.outputs[0]], Activation)


def test_what_is_no_output_is_refused() -> None:
    graph, _ = heads()
    with pytest.raises(UserError, match="conv1 is no output of heads; those are conv2, conv3"):
        change_output_activation(graph, function="sigmoid", layer="conv1")


def test_a_function_with_constants_behind_it_is_part_of_the_network() -> None:
    graph, params = heads()
    name = graph.outputs[0]
    squashed = change_output_activation(graph, function="sigmoid", layer=name)
    (output,) = set(squashed.outputs) - set(graph.outputs)
    scaled = squashed.replace({output: dataclasses.replace(squashed[output], affine=(2.0, -0.5))})
    before, after = (
        run(one, params)[0] for one in (graph, change_output_activation(scaled, function="sigmoid"))
    )
    expected = FUNCTIONS["sigmoid"](2 * FUNCTIONS["sigmoid"](before) - 0.5)
    assert after == pytest.approx(expected, abs=1e-5)
