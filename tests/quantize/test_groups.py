"""Tensors between which integers only move share scale, zero point and bits; others do not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mz.graph import (
    Activation,
    Add,
    Concat,
    GlobalAvgPool,
    Graph,
    Input,
    MaxPool,
    Mul,
    Pad,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from mz.quantize.groups import is_move, scale_groups

SHAPE = (2, 4, 4)


@st.composite
def graphs(draw) -> Graph:
    """Up to nine layers, each a move or not, over one or two inputs. Shapes are made up: groups do not read them."""
    layers = [Input(name=f"x{i}", inputs=(), shape=SHAPE) for i in range(draw(st.integers(1, 2)))]
    for index in range(draw(st.integers(1, 9))):
        name = f"l{index}"
        some = st.sampled_from([layer.name for layer in layers])
        one, two = draw(some), draw(some)
        layers.append(
            draw(
                st.sampled_from(
                    [
                        MaxPool(name=name, inputs=(one,), shape=SHAPE, kernel_shape=(1, 1)),
                        Concat(name=name, inputs=(one, two), shape=SHAPE),
                        Slice(name=name, inputs=(one,), shape=SHAPE, starts=(0,), stops=(2,), steps=(1,)),
                        Pad(name=name, inputs=(one,), shape=SHAPE, pads=(1, 0, 0, 0)),
                        Reshape(name=name, inputs=(one,), shape=SHAPE),
                        Transpose(name=name, inputs=(one,), shape=SHAPE, permutation=(0, 2, 1)),
                        Resize(name=name, inputs=(one,), shape=SHAPE, mode="bilinear", scales=(1.0, 1.0)),
                        Add(name=name, inputs=(one, two), shape=SHAPE),
                        Mul(name=name, inputs=(one, two), shape=SHAPE),
                        Activation(name=name, inputs=(one,), shape=SHAPE, function="tanh"),
                        GlobalAvgPool(name=name, inputs=(one,), shape=SHAPE),
                    ]
                )
            )
        )
    return Graph("g", tuple(layers), (layers[-1].name,))


@given(graphs())
@settings(max_examples=60)
def test_groups_are_what_moves_connect_and_nothing_more(graph):
    """The judge: flood along the moves, from every tensor, until nothing new is reached."""
    moves = (MaxPool, Concat, Slice, Pad, Reshape, Transpose, Resize)
    links = {layer.name: set[str]() for layer in graph.layers}
    for layer in graph.layers:
        if isinstance(layer, moves):
            for name in layer.inputs:
                links[layer.name].add(name)
                links[name].add(layer.name)
    groups = scale_groups(graph)
    order = [layer.name for layer in graph.layers]
    assert sorted(name for group in groups for name in group) == sorted(order)
    for group in groups:
        reached = {group[0]}
        while more := {far for name in reached for far in links[name]} - reached:
            reached |= more
        assert set(group) == reached
        assert list(group) == sorted(group, key=order.index)
        assert any(not is_move(graph[name]) for name in group)


def test_host_layers_belong_to_no_group():
    x = Input(name="x", inputs=(), shape=(4,))
    graph = Graph("g", (x, Softmax(name="s", inputs=("x",), shape=(4,), host=True)), ("s",))
    assert scale_groups(graph) == [("x",)]
