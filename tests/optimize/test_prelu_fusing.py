"""PReLUs become a part of the layers before them: the function stays, and only what is nothing else may go."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks

from mz.engines.float_ort import FloatSession
from mz.graph import Activation, Add, Concat, Conv, Deconv, Dense, Graph, Layer, Params
from mz.optimize import fuse_prelus

FREE = (-np.inf, np.inf)


def prelu(builder: Builder, source: Layer) -> Layer:
    layer = builder.add(Activation, [source], source.shape, function="prelu")
    slope = builder.rng.uniform(-0.5, 1.5, source.shape[0])
    builder.params[layer.name] = {"slope": slope.astype(np.float32)}
    return layer


def normalized(of: type[Layer], factor: float = 1.0) -> tuple[Graph, Params]:
    """Two branches joined, normalized (the depthwise convolution) and put through a PReLU."""
    builder = Builder(3)
    first = builder.last
    branches = [builder.conv(first, 4, clip=FREE), builder.conv(first, 4, 3, clip=FREE)]
    joined = builder.add(of, branches, (8 if of is Concat else 4, 6, 6))
    normal = builder.conv(joined, joined.shape[0], groups=joined.shape[0], clip=FREE)
    builder.params[normal.name]["kernel"] *= factor
    builder.conv(prelu(builder, normal), 5)
    return builder.finish()


def same_function(before: tuple[Graph, Params], after: tuple[Graph, Params]) -> None:
    feeds = images(before[0], 8)
    expected, found = (FloatSession(*network).run(feeds) for network in (before, after))
    for name in before[0].outputs:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-4, atol=1e-4 * np.abs(expected[name]).max()
        )


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0])
def test_a_sum_takes_the_normalization_behind_it_along(factor) -> None:
    graph, params = normalized(Add, factor)
    changed, arrays, fused = fuse_prelus(graph, params)
    assert fused == {"activation5": "ew_add3"} and changed["ew_add3"].prelu
    assert not {"conv4", "activation5"} & {*changed.by_name, *arrays}
    assert set(arrays["ew_add3"]) == {"factor", "offset", "slope"}
    assert changed["conv6"].inputs == ("ew_add3",)
    same_function((graph, params), (changed, arrays))


def test_a_normalization_of_anything_else_has_the_prelu() -> None:
    graph, params = normalized(Concat)
    changed, arrays, fused = fuse_prelus(graph, params)
    assert fused == {"activation5": "conv4"} and changed["conv4"].prelu
    assert set(arrays["conv4"]) == {"kernel", "bias", "slope"}
    same_function((graph, params), (changed, arrays))


def test_a_named_normalization_stays_and_has_the_prelu() -> None:
    graph, params = normalized(Add)
    assert fuse_prelus(graph, params, keep=["conv4"])[2] == {"activation5": "conv4"}


def test_a_prelu_behind_a_prelu_stays() -> None:
    builder = Builder(5)
    twice = prelu(builder, prelu(builder, builder.conv(builder.last, 4, clip=FREE)))
    builder.conv(twice, 3)
    graph, params = builder.finish()
    changed, arrays, fused = fuse_prelus(graph, params)
    assert fused == {"activation2": "conv1"} and changed["activation3"].inputs == ("conv1",)
    same_function((graph, params), (changed, arrays))
    assert fuse_prelus(changed, arrays)[2] == {}, "the convolution has a PReLU already"


@pytest.mark.parametrize("function", ["leaky_relu", "prelu"])
@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_dense_layers_have_their_channels_last(function, shape) -> None:
    """A PReLU of rows has its slopes along the first axis, which no output channel is."""
    builder = Builder(6)
    builder.layers[0] = dataclasses.replace(builder.layers[0], shape=(*shape[:-1], 4))
    dense = builder.add(Dense, [builder.last], shape)
    builder.weights(dense, (6, 4), 6)
    builder.params[dense.name]["bias"] -= 1
    if function == "prelu":
        prelu(builder, dense)
    else:
        builder.add(Activation, [dense], shape, function=function)
    last = builder.add(Dense, [builder.last], (*shape[:-1], 3))
    builder.weights(last, (3, 6), 3)
    graph, params = Graph("dense", tuple(builder.layers), (last.name,)), builder.params
    changed, arrays, fused = fuse_prelus(graph, params)
    assert bool(fused) == (function == "leaky_relu" or len(shape) == 1)
    same_function((graph, params), (changed, arrays))


def _clipped(graph: Graph) -> Graph:
    return graph.replace({"conv4": dataclasses.replace(graph["conv4"], clip=(0.0, np.inf))})


def _read_twice(graph: Graph) -> Graph:
    sum_ = Add(name="sum", inputs=("conv4", "activation5"), shape=graph["conv4"].shape)
    place = graph.order["activation5"] + 1
    layers = (*graph.layers[:place], sum_, *graph.layers[place:])
    return dataclasses.replace(graph, layers=layers, outputs=(*graph.outputs, "sum"))


def _output(graph: Graph) -> Graph:
    return dataclasses.replace(graph, outputs=(*graph.outputs, "conv4"))


def _prelu_is_output(graph: Graph) -> Graph:
    return dataclasses.replace(graph, outputs=(*graph.outputs, "activation5"))


@pytest.mark.parametrize("change", [_clipped, _read_twice, _output, _prelu_is_output])
def test_what_others_see_stays(change) -> None:
    graph, params = normalized(Concat)
    graph = change(graph)
    changed, arrays, fused = fuse_prelus(graph, params)
    assert changed is graph and arrays is params and not fused


@given(
    networks(["depthwise", "conv", "deconv", "prelu", "prelu", "leaky_relu", "add", "concat"]), st.booleans()
)
def test_the_function_stays(network, keep_all) -> None:
    graph, params = network
    changed, arrays, fused = fuse_prelus(graph, params, graph.by_name if keep_all else ())
    assert all(isinstance(changed[into], Add | Conv | Deconv) for into in fused.values())
    assert len(set(fused.values())) == len(fused)
    same_function((graph, params), (changed, arrays))
