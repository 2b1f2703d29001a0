"""Dead channels go and the function stays; channels that are removed leave every later stage consistent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks, output_db

from mz.engines.float_ort import FloatSession
from mz.graph import (
    Activation,
    Concat,
    Conv,
    Dense,
    Graph,
    Input,
    MatMul,
    Params,
    Reshape,
    Transpose,
    Weighted,
)
from mz.optimize import channel_classes, remove_dead_channels
from mz.optimize.bounds import interval_bounds
from mz.optimize.channel_removal import remove_channels

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def kill(graph: Graph, params: Params, seed: int) -> Params:
    """Some output channels without weights, some input channels that nobody reads."""
    rng = np.random.default_rng(seed)
    changed = dict(params)
    for layer in graph.layers:
        if isinstance(layer, Weighted):
            arrays = {key: value.copy() for key, value in params[layer.name].items()}
            axis = int(layer.kind == "deconv")
            chosen = np.flatnonzero(rng.random(arrays["kernel"].shape[axis]) < 0.3)
            arrays["kernel"][(slice(None),) * axis + (chosen,)] = 0
            if rng.random() < 0.5:
                arrays["bias"][...] = np.minimum(arrays["bias"], 0)
            if rng.random() < 0.3:
                unread = np.flatnonzero(rng.random(arrays["kernel"].shape[1 - axis]) < 0.3)
                arrays["kernel"][(slice(None),) * (1 - axis) + (unread,)] = 0
            changed[layer.name] = arrays
    return changed


@QUICK
@given(networks(), st.integers(0, 99))
def test_removal_leaves_the_function(network: tuple[Graph, Params], seed: int) -> None:
    graph, params = network[0], kill(*network, seed)
    smaller, kept, lost = remove_dead_channels(graph, params)
    feeds = images(graph)
    expected, found = FloatSession(graph, params).run(feeds), FloatSession(smaller, kept).run(feeds)
    for name in graph.outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert all(n > 0 for n in lost.values())
    assert sum(map(smaller.macs, smaller.layers)) <= sum(map(graph.macs, graph.layers))


@QUICK
@given(networks(), st.integers(0, 99))
def test_bounds_hold_for_any_image(network: tuple[Graph, Params], seed: int) -> None:
    graph, params = network[0], kill(*network, seed)
    bounds = interval_bounds(graph, params)
    names = [layer.name for layer in graph.layers]
    for scale in (1.0, 100.0):
        feeds = {name: scale * x for name, x in images(graph, seed=seed).items()}
        for name, x in FloatSession(graph, params, taps=names).run(feeds).items():
            low, high = bounds[name]
            slack = 1e-4 * (1 + np.abs(x).max())
            assert (x >= low - slack).all() and (x <= high + slack).all(), name


def test_bounds_of_groups_whose_channels_are_all_alike() -> None:
    """The tokens of a dense layer have the same bounds; made channels, they are read one by one."""
    layers = (
        Input(name="x", inputs=(), shape=(5, 3)),
        Activation(name="s", inputs=("x",), shape=(5, 3), function="sigmoid"),
        Dense(name="d", inputs=("s",), shape=(5, 4)),
        Reshape(name="r", inputs=("d",), shape=(5, 4, 1)),
        Conv(name="y", inputs=("r",), shape=(5, 4, 1), kernel_shape=(1, 1), groups=5),
    )
    kernel = np.arange(1.0, 6.0, dtype=np.float32).reshape(5, 1, 1, 1)
    params = {"d": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(4, np.float32)}}
    params["y"] = {"kernel": kernel, "bias": np.zeros(5, np.float32)}
    low, high = interval_bounds(Graph(name="g", layers=layers, outputs=("y",)), params)["y"]
    np.testing.assert_allclose(low, 0.0, atol=1e-6)
    np.testing.assert_allclose(high, np.broadcast_to(3 * kernel[:, :, 0], (5, 4, 1)))


def test_a_constant_moves_into_the_bias_unless_padding_sees_it() -> None:
    for kernel, left in ((1, 3), (3, 4)):
        builder = Builder(0)
        first = builder.conv(builder.last, 4)
        builder.params[first.name]["kernel"][1] = 0
        builder.params[first.name]["bias"][1] = 2.5
        builder.conv(first, 5, kernel=kernel)
        graph, params = builder.finish()
        smaller, kept, _ = remove_dead_channels(graph, params)
        assert smaller[first.name].shape[0] == left
        assert output_db(graph, params, smaller, kept, images(graph)) > 100


@pytest.mark.parametrize(
    ("width", "dead", "left"), [(32, 5, 32), (32, 16, 16), (32, 21, 16), (32, 31, 16), (30, 5, 25)]
)
def test_whole_blocks_of_channels_stay_whole(width: int, dead: int, left: int) -> None:
    builder = Builder(0)
    first = builder.conv(builder.last, width)
    builder.params[first.name]["kernel"][:dead] = 0
    builder.params[first.name]["bias"][:dead] = 0
    builder.conv(first, 5, kernel=3)
    graph, params = builder.finish()
    smaller, kept, lost = remove_dead_channels(graph, params)
    assert smaller[first.name].shape[0] == left and sum(lost.values()) == width - left
    assert output_db(graph, params, smaller, kept, images(graph)) > 100


def test_blocks_stay_whole_where_tensors_meet_too() -> None:
    """A concatenation of 16 and 12 channels: the first loses none of its 6 dead ones, the second all of its 4."""
    builder = Builder(0)
    source = builder.last
    parts = [builder.conv(source, 16), builder.conv(source, 12)]
    for part, dead in zip(parts, (6, 4), strict=True):
        builder.params[part.name]["kernel"][:dead] = 0
        builder.params[part.name]["bias"][:dead] = 0
    builder.conv(builder.add(Concat, parts, (28, *parts[0].shape[1:]), axis=0), 5)
    graph, params = builder.finish()
    smaller, kept, _ = remove_dead_channels(graph, params)
    assert [smaller[part.name].shape[0] for part in parts] == [16, 8]
    assert output_db(graph, params, smaller, kept, images(graph)) > 100


def test_a_network_without_dead_channels_comes_back_itself() -> None:
    builder = Builder(1)
    builder.conv(builder.last, 4)
    graph, params = builder.finish()
    same, kept, lost = remove_dead_channels(graph, params)
    assert same is graph and kept is params and lost == {}


@QUICK
@given(networks(), st.randoms(use_true_random=False))
def test_any_free_channels_can_be_taken_out(network: tuple[Graph, Params], random) -> None:
    """What is left is a network that runs, with shapes and arrays that agree."""
    graph, params = network
    channels = channel_classes(graph, "removal")
    removed = np.array([not fixed and random.random() < 0.5 for fixed in channels.fixed])
    for name in channels.classes:
        classes = channels.of_tensor(name)
        if removed[classes].all():
            removed[classes[0]] = False
    smaller, kept = remove_channels(graph, params, channels, removed)
    found = FloatSession(smaller, kept, taps=[layer.name for layer in smaller.layers]).run(images(graph))
    for name, classes in channels.classes.items():
        assert found[name].shape[1:] == smaller[name].shape
        assert smaller[name].shape == graph[name].shape or removed[classes].any()


def test_fixed_channels_stay() -> None:
    builder = Builder(2)
    builder.conv(builder.last, 4)
    graph, params = builder.finish()
    channels = channel_classes(graph, "removal")
    with pytest.raises(ValueError, match="fixed"):
        remove_channels(graph, params, channels, channels.fixed)


def test_constant_inputs_of_a_dense_layer_whose_bounds_are_one_for_all() -> None:
    """Of a product of matrices nothing is known, so that its bounds have one place; each channel's is looked at."""
    layers = (
        Input(name="x", inputs=(), shape=(5, 4)),
        Transpose(name="t", inputs=("x",), shape=(4, 5), permutation=(1, 0)),
        MatMul(name="m", inputs=("x", "t"), shape=(5, 5)),
        Dense(name="fc1", inputs=("m",), shape=(5, 3)),
    )
    params = {"fc1": {"kernel": np.ones((3, 5), np.float32), "bias": np.zeros(3, np.float32)}}
    graph = Graph("tokens", layers, ("fc1",))
    assert remove_dead_channels(graph, params) == (graph, params, {})
