"""Normalizations before a PReLU become a part of it: the function stays, and only what is nothing else may go."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks

from mz.engines.float_ort import FloatSession
from mz.graph import Activation, Add, Concat, Conv, Graph, Params
from mz.optimize import fold_into_prelus
from mz.optimize.bounds import interval_bounds


def normalized(factor: float = 1.0) -> tuple[Graph, Params]:
    """Two branches joined, normalized (the depthwise convolution) and put through a PReLU."""
    builder = Builder(3)
    first = builder.last
    joined = builder.add(Concat, [builder.conv(first, 4), builder.conv(first, 4, 3)], (8, 6, 6))
    normal = builder.conv(joined, 8, groups=8, clip=(-np.inf, np.inf))
    builder.params[normal.name]["kernel"] *= factor
    prelu = builder.add(Activation, [normal], normal.shape, function="prelu")
    builder.params[prelu.name] = {"slope": builder.rng.uniform(-0.5, 0.5, 8).astype(np.float32)}
    builder.conv(prelu, 5)
    return builder.finish()


def same_function(before: tuple[Graph, Params], after: tuple[Graph, Params]) -> None:
    feeds = images(before[0], 8)
    expected, found = (FloatSession(*network).run(feeds) for network in (before, after))
    for name in before[0].outputs:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-4, atol=1e-4 * np.abs(expected[name]).max()
        )


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0])
def test_a_normalization_goes_into_its_prelu(factor) -> None:
    graph, params = normalized(factor)
    changed, arrays, folded = fold_into_prelus(graph, params)
    assert folded == ["conv4"] and "conv4" not in changed.by_name and "conv4" not in arrays
    prelu = changed["activation5"]
    assert isinstance(prelu, Activation) and prelu.function == "affine_prelu" and prelu.inputs == ("concat3",)
    same_function((graph, params), (changed, arrays))
    known, bounds = (
        interval_bounds(*network)["activation5"] for network in ((graph, params), (changed, arrays))
    )
    np.testing.assert_allclose(bounds, known, rtol=1e-5)


def _clipped(graph: Graph) -> Graph:
    return graph.replace({"conv4": dataclasses.replace(graph["conv4"], clip=(0.0, np.inf))})


def _strided(graph: Graph) -> Graph:
    changes = {"conv4": dataclasses.replace(graph["conv4"], strides=(2, 2), shape=(8, 3, 3))}
    changes |= {
        name: dataclasses.replace(graph[name], shape=(channels, 3, 3))
        for name, channels in (("activation5", 8), ("conv6", 5))
    }
    return graph.replace(changes)


def _read_twice(graph: Graph) -> Graph:
    sum_ = Add(name="sum", inputs=("conv4", "activation5"), shape=graph["conv4"].shape)
    place = graph.order["activation5"] + 1
    layers = (*graph.layers[:place], sum_, *graph.layers[place:])
    return dataclasses.replace(graph, layers=layers, outputs=(*graph.outputs, "sum"))


def _output(graph: Graph) -> Graph:
    return dataclasses.replace(graph, outputs=(*graph.outputs, "conv4"))


@pytest.mark.parametrize("change", [_clipped, _strided, _read_twice, _output])
def test_what_is_more_than_a_normalization_stays(change) -> None:
    graph, params = normalized()
    graph = change(graph)
    changed, arrays, folded = fold_into_prelus(graph, params)
    assert changed is graph and arrays is params and not folded


def test_a_named_layer_stays() -> None:
    graph, params = normalized()
    assert fold_into_prelus(graph, params, keep=["conv4"])[2] == []


@given(
    networks(["depthwise", "depthwise", "prelu", "prelu", "affine_prelu", "add", "concat", "conv"]),
    st.booleans(),
)
def test_the_function_stays(network, keep_all) -> None:
    graph, params = network
    keep = graph.by_name if keep_all else ()
    changed, arrays, folded = fold_into_prelus(graph, params, keep)
    assert not (keep_all and folded)
    assert all(isinstance(graph[name], Conv) and name not in changed.by_name for name in folded)
    same_function((graph, params), (changed, arrays))
