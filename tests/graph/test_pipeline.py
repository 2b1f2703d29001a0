"""Rows and bytes that a dataflow accelerator keeps, against cases worked out by hand."""

from __future__ import annotations

import math

from hypothesis import given, settings
from tests.optimize.networks import Builder, networks

from mz.graph import Add, AvgPool, Conv, GlobalAvgPool, Graph, MaxPool, Mul, Resize, Slice
from mz.graph.pipeline import pipeline_buffers, pipeline_rows


def rows_of(b: Builder) -> dict[str, tuple[int, ...]]:
    return pipeline_rows(Graph("g", tuple(b.layers), (b.last.name,)))


def test_a_window_keeps_its_rows_and_an_input_nothing() -> None:
    b = Builder(0, channels=4, size=8)
    b.conv(b.last, 2, 3)
    b.add(Conv, [b.last], (2, 8, 8), kernel_shape=(3, 3), dilations=(2, 2), pads=(2, 2, 2, 2))
    b.add(MaxPool, [b.last], (2, 4, 4), kernel_shape=(2, 2), strides=(2, 2))
    b.conv(b.last, 6, 1)
    assert rows_of(b) == {"input_layer1": (), "conv1": (3,), "conv2": (5,), "maxpool3": (2,), "conv4": (1,)}
    graph = Graph("g", tuple(b.layers), (b.last.name,))
    bytes_kept = {
        "input_layer1": 0,
        "conv1": 3 * 4 * 8,
        "conv2": 5 * 2 * 8,
        "maxpool3": 2 * 2 * 8,
        "conv4": 2 * 4,
    }
    assert pipeline_buffers(graph) == bytes_kept
    assert pipeline_buffers(graph, value_bytes=2) == {name: 2 * size for name, size in bytes_kept.items()}


def test_a_shortcut_waits_for_the_rows_that_the_branch_is_late() -> None:
    b = Builder(0, channels=4, size=8)
    x = b.last
    b.conv(b.conv(x, 4, 3), 4, 3)  # one row late each: the first row needs the second one of its input
    b.add(Add, [x, b.last], x.shape)
    assert rows_of(b)["ew_add3"] == (3, 1)


def test_a_halved_branch_is_late_by_rows_of_the_image() -> None:
    b = Builder(0, channels=4, size=8)
    x = b.last
    b.add(MaxPool, [x], (4, 4, 4), kernel_shape=(2, 2), strides=(2, 2))
    b.conv(b.last, 4, 3)  # its first row needs two of the pool's, which are four of the image
    b.add(Resize, [b.last], x.shape, mode="nearest", scales=(2.0, 2.0))
    b.add(Add, [x, b.last], x.shape)
    assert rows_of(b)["ew_add4"] == (4, 1)


def test_a_gate_of_the_whole_map_keeps_all_of_it_and_one_of_tiles_a_tile() -> None:
    b = Builder(0, channels=4, size=12)
    x = b.last
    b.add(Mul, [x, b.add(GlobalAvgPool, [x], (4, 1, 1))], x.shape)
    assert rows_of(b)["ew_mult2"] == (12, 1)
    b = Builder(0, channels=4, size=12)
    x = b.last
    b.add(AvgPool, [x], (4, 3, 1), kernel_shape=(5, 12), strides=(5, 12), pads=(0, 0, 3, 0))
    b.add(Resize, [b.last], (4, 15, 1), mode="nearest", scales=(5.0, 1.0))
    b.add(Slice, [b.last], (4, 12, 1), starts=(0, 0, 0), stops=(4, 12, 1), steps=(1, 1, 1))
    b.add(Mul, [x, b.last], x.shape)
    assert rows_of(b)["ew_mult4"] == (5, 1)


def test_rows_cut_off_above_are_rows_to_wait_for() -> None:
    b = Builder(0, channels=4, size=8)
    x = b.last
    low = b.add(Slice, [x], (4, 4, 8), starts=(0, 4, 0), stops=(4, 8, 8), steps=(1, 1, 1))
    high = b.add(Slice, [x], (4, 4, 8), starts=(0, 0, 0), stops=(4, 4, 8), steps=(1, 1, 1))
    b.add(Add, [low, high], low.shape)
    assert rows_of(b)["ew_add3"] == (1, 4)  # all of the upper half, until the lower one begins


@settings(max_examples=40, deadline=None)
@given(networks())
def test_between_one_row_and_all_are_kept_of_every_input(network) -> None:
    graph, _ = network
    sizes = pipeline_buffers(graph)
    for name, kept in pipeline_rows(graph).items():
        shapes = graph.input_shapes(graph[name])
        assert len(kept) == len(shapes)
        for rows, shape in zip(kept, shapes, strict=True):
            assert 1 <= rows <= (shape[1] if len(shape) == 3 else 1)
        assert sizes[name] <= sum(math.prod(shape) for shape in shapes)
