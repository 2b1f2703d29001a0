"""A global average pool in two stages is the same mean, and what does not divide is refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, output_db

from mz.errors import UserError
from mz.graph import AvgPool, GlobalAvgPool, Graph
from mz.optimize import reduce_global_avgpool


def pooled(height: int, width: int) -> tuple[Graph, str]:
    b = Builder(0, 3)
    b.layers[0] = dataclasses.replace(b.layers[0], shape=(3, height, width))
    pool = b.add(GlobalAvgPool, [b.last], (3, 1, 1))
    return Graph("pooled", tuple(b.layers), (pool.name,)), pool.name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))
def test_the_mean_of_equal_windows_means_is_the_mean(rows, columns, tall, wide) -> None:
    graph, name = pooled(rows * tall, columns * wide)
    reduced = reduce_global_avgpool(graph, layer=name, division_factors=(rows, columns))
    windows = reduced[reduced[name].inputs[0]]
    assert isinstance(windows, AvgPool)
    assert (windows.kernel_shape, windows.shape) == ((tall, wide), (3, rows, columns))
    assert output_db(graph, {}, reduced, {}, images(graph)) > 100


@pytest.mark.parametrize("factors", [(2, 1), (1, 2), (14, 7), (7, 3)])
def test_what_leaves_a_rest_is_refused(factors) -> None:
    graph, name = pooled(7, 7)
    with pytest.raises(UserError, match=r"a map of 7 x 7, which division factors of \d+ x \d+ do not divide"):
        reduce_global_avgpool(graph, layer=name, division_factors=factors)


def test_another_layer_is_refused() -> None:
    graph, _ = pooled(4, 4)
    with pytest.raises(UserError, match="input_layer1 is no global average pool, its kind is input"):
        reduce_global_avgpool(graph, layer="input_layer1", division_factors=(2, 2))
