"""Tiled squeeze-and-excite: every row's gate is that of its tile, computed once more by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks, output_db

from mz.archive.model import params_fault
from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.errors import UserError
from mz.flow.networks import parse
from mz.flow.options import ModelRef
from mz.graph import Activation, AvgPool, Dense, GlobalAvgPool, Graph, Layer, Mul, Params, Reshape
from mz.optimize import find_squeeze_excite, tiled_squeeze_excite
from mz.quantize import Recipe, collect, image_bytes, quantize

FORMS = ("conv", "dense", "named_pool", "hard_swish", "swapped")


def block(
    form: str, channels: int = 4, height: int = 6, width: int = 5, seed: int = 0
) -> tuple[Graph, Params]:
    """An input under one squeeze-and-excite block, in the forms that parsed networks have."""
    b = Builder(seed, channels)
    b.layers[0] = dataclasses.replace(b.layers[0], shape=(channels, height, width))
    x = b.last
    if form == "named_pool":
        pooled: Layer = b.add(AvgPool, [x], (channels, 1, 1), kernel_shape=(height, width))
    else:
        pooled = b.add(GlobalAvgPool, [x], (channels, 1, 1))
    if form == "dense":
        flat = b.add(Reshape, [pooled], (channels,))
        squeezed = b.add(Dense, [flat], (3,), clip=(0.0, math.inf))
        b.weights(squeezed, (3, channels), 3)
        excited = b.add(Dense, [squeezed], (channels,))
        b.weights(excited, (channels, 3), channels)
        gate: Layer = b.add(Activation, [excited], (channels,), function="sigmoid")
        gate = b.add(Reshape, [gate], (channels, 1, 1))
    else:
        squeezed = b.conv(pooled, 3, clip=(0.0, math.inf))
        if form == "hard_swish":
            squeezed = b.add(Activation, [squeezed], (3, 1, 1), function="hard_swish")
        gate = b.add(Activation, [b.conv(squeezed, channels)], (channels, 1, 1), function="sigmoid")
    b.add(Mul, [gate, x] if form == "swapped" else [x, gate], x.shape)
    return Graph("block", tuple(b.layers), (b.last.name,)), b.params


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 10),
    st.integers(0, 99),
)
def test_every_row_has_the_gate_of_its_tile(form, channels, height, width, tile, seed) -> None:
    graph, params = block(form, channels, height, width, seed)
    tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=tile)
    assert params_fault(tiled, arrays) is None
    feeds = images(graph, 3, seed)
    (found,) = FloatSession(tiled, arrays).run(feeds).values()
    x = feeds["input_layer1"]
    for top in range(0, height, tile):
        rows = x[:, :, top : top + tile]
        gate = np.float64(1) * _gate(graph, params, rows.mean(axis=(2, 3)))
        assert found[:, :, top : top + tile] == pytest.approx(rows * gate[:, :, None, None], abs=1e-5)
    assert bool(report.tiled) == (height > tile)


def _gate(graph: Graph, params: Params, means: np.ndarray) -> np.ndarray:
    """The block's own layers on vectors of means [N, C]."""
    x = means.astype(np.float64)
    for layer in graph.layers:
        if layer.name in params:
            arrays = params[layer.name]
            x = x @ arrays["kernel"].reshape(len(arrays["bias"]), -1).T + arrays["bias"]
            x = np.clip(x, *layer.clip)  # type: ignore[attr-defined]
        elif isinstance(layer, Activation):
            x = 1 / (1 + np.exp(-x)) if layer.function == "sigmoid" else x * np.clip(x / 6 + 0.5, 0, 1)
    return x


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(["gate", "gate", "conv", "depthwise", "add", "prelu", "maxpool"]), st.integers(1, 7))
def test_blocks_of_random_networks(network, tile) -> None:
    graph, params = network
    blocks = find_squeeze_excite(graph)
    assert len(blocks) == sum(layer.kind == "mul" for layer in graph.layers)
    if not blocks:
        return
    tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=tile)
    assert params_fault(tiled, arrays) is None
    assert len(report.tiled) + len(report.untouched) == len(blocks)
    if tile >= 6:  # the height of all their maps
        assert tiled == graph
    flat = {
        "input_layer1": np.ones((1, 4, 6, 6), np.float32)
    }  # without padding, every tile's mean is the map's
    if not any(any(getattr(layer, "pads", ())) for layer in graph.layers):
        assert output_db(graph, params, tiled, arrays, flat) > 80


@pytest.mark.parametrize("form", FORMS)
def test_a_tile_of_the_whole_height_leaves_the_network_as_it_is(form) -> None:
    graph, params = block(form)
    tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=6)
    assert tiled == graph and arrays == params
    assert not report.tiled and len(report.untouched) == 1
    assert report.buffer_before == report.buffer_after


@pytest.mark.parametrize("tile", [2, 4])
def test_ragged_tiles_have_the_same_integers_in_both_engines(tile) -> None:
    graph, params, _ = tiled_squeeze_excite(*block("conv", height=7), tile_height=tile)
    feeds = images(graph, 6)
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    quantization = quantize(graph, params, collect(session, [feeds], image_bytes(graph)), Recipe())
    expected = NumpySession(graph, params, quantization).run(feeds)
    found = IntegerOrtSession(graph, params, quantization).run(feeds)
    assert all((expected[name] == found[name]).all() for name in expected)


@pytest.mark.parametrize("form", FORMS)
def test_blocks_are_found_whatever_their_layers_are_called(form) -> None:
    graph, _ = block(form)
    names = {layer.name: f"n{number}" for number, layer in enumerate(graph.layers)}
    renamed = Graph(
        "other",
        tuple(
            dataclasses.replace(
                layer, name=names[layer.name], inputs=tuple(names[name] for name in layer.inputs)
            )
            for layer in graph.layers
        ),
        tuple(names[name] for name in graph.outputs),
    )
    (found,) = find_squeeze_excite(renamed)
    assert (found.pool.name, found.product.name) == ("n1", renamed.outputs[0])


def without_weights(b: Builder) -> None:
    gate = b.add(Activation, [b.add(GlobalAvgPool, [b.layers[0]], (4, 1, 1))], (4, 1, 1), function="sigmoid")
    b.add(Mul, [b.layers[0], gate], (4, 6, 6))


def read_twice(b: Builder) -> None:
    pooled = b.add(GlobalAvgPool, [b.layers[0]], (4, 1, 1))
    first, second = b.conv(pooled, 4), b.conv(pooled, 4)
    b.add(Mul, [b.add(Mul, [b.layers[0], first], (4, 6, 6)), second], (4, 6, 6))


def partly_pooled(b: Builder) -> None:
    pooled = b.add(AvgPool, [b.layers[0]], (4, 2, 2), kernel_shape=(3, 3), strides=(3, 3))
    gate = b.conv(pooled, 4)
    b.add(Mul, [gate, b.conv(pooled, 4)], (4, 2, 2))


def another_map(b: Builder) -> None:
    gate = b.conv(b.add(GlobalAvgPool, [b.layers[0]], (4, 1, 1)), 4)
    small = b.add(AvgPool, [b.layers[0]], (4, 2, 2), kernel_shape=(3, 3), strides=(3, 3))
    b.add(Mul, [small, gate], (4, 2, 2))


def classifier(b: Builder) -> None:
    b.conv(b.add(GlobalAvgPool, [b.layers[0]], (4, 1, 1)), 4)


@pytest.mark.parametrize("make", [without_weights, read_twice, partly_pooled, another_map, classifier])
def test_what_only_looks_like_a_block_is_none(make) -> None:
    b = Builder(0)
    make(b)
    graph = Graph("none", tuple(b.layers), (b.last.name,))
    assert find_squeeze_excite(graph) == []
    with pytest.raises(UserError, match="none has no squeeze-and-excite block"):
        tiled_squeeze_excite(graph, b.params, tile_height=2)


@pytest.fixture(scope="module")
def mobilenet() -> tuple[Graph, Params]:
    archive = parse(ModelRef(model="mobilenet_v3_fashion"))
    return archive.graph, archive.params


def test_the_bundled_networks_blocks_in_order_by_count_and_by_name(mobilenet) -> None:
    graph, params = mobilenet
    pools = [block.pool.name for block in find_squeeze_excite(graph)]
    assert len(pools) == 5
    tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=4, count=2)
    assert report.tiled == tuple(pools[:2])
    assert params_fault(tiled, arrays) is None
    _, _, report = tiled_squeeze_excite(graph, params, tile_height=4, layers=[pools[3]])
    assert report.tiled == (pools[3],)
    assert report.buffer_after < report.buffer_before
    with pytest.raises(UserError, match=f"conv1 is in no squeeze-and-excite block .* {pools[0]}"):
        tiled_squeeze_excite(graph, params, tile_height=4, layers=["conv1"])


def test_lower_tiles_keep_fewer_rows_and_the_untiled_network_is_exact(mobilenet) -> None:
    graph, params = mobilenet
    kept = [
        tiled_squeeze_excite(graph, params, tile_height=tile)[2].buffer_after for tile in (1, 2, 4, 8, 16)
    ]
    assert kept == sorted(kept)
    tiled, arrays, report = tiled_squeeze_excite(graph, params, tile_height=16)
    assert not report.tiled and tiled == graph and arrays == params
