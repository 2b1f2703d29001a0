"""Weights are clipped where the bounds say, layer by layer, and the report says how many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optimize.networks import networks

from mz.errors import UserError
from mz.graph import Weighted
from mz.optimize import clip_weights


@settings(max_examples=30, deadline=None)
@given(networks(), st.floats(-2, 0), st.floats(0.01, 2))
def test_manual_bounds(network, low, high) -> None:
    graph, params = network
    names = [layer.name for layer in graph.layers if isinstance(layer, Weighted)]
    same, clipped, report = clip_weights(graph, params, dict.fromkeys(names[::2], ("manual", low, high)))
    assert same is graph and list(report.shares) == names[::2]
    for name in names[::2]:
        kernel = params[name]["kernel"]
        assert clipped[name]["kernel"] == pytest.approx(np.clip(kernel, low, high))
        assert clipped[name]["kernel"].dtype == np.float32
        assert clipped[name]["bias"] is params[name]["bias"]
        assert report.shares[name] == ((kernel < low) | (kernel > high)).mean()
    assert all(clipped[name] is params[name] for name in names[1::2])


@settings(max_examples=30, deadline=None)
@given(networks(), st.floats(0, 20), st.floats(80, 100))
def test_percentiles_are_of_the_layers_own_weights(network, low, high) -> None:
    graph, params = network
    names = [layer.name for layer in graph.layers if isinstance(layer, Weighted)]
    _, clipped, report = clip_weights(graph, params, dict.fromkeys(names, ("percentile", low, high)))
    for name in names:
        kernel, found = params[name]["kernel"], clipped[name]["kernel"]
        edges = np.percentile(kernel, (low, high)).astype(np.float32)
        assert found.min() >= edges[0] and found.max() <= edges[1]
        inside = (kernel > edges[0]) & (kernel < edges[1])
        assert (found[inside] == kernel[inside]).all()
        assert report.shares[name] <= (low + 100 - high) / 100 + 2 / kernel.size + 1e-9
    _, whole, nothing = clip_weights(graph, params, {names[0]: ("percentile", 0.0, 100.0)})
    assert (whole[names[0]]["kernel"] == params[names[0]]["kernel"]).all()
    assert nothing.shares == {names[0]: 0.0}


@settings(max_examples=1)
@given(networks())
def test_a_layer_without_weights_is_refused(network) -> None:
    graph, params = network
    with pytest.raises(UserError, match="layer input_layer1: has no weights to clip, its kind is input"):
        clip_weights(graph, params, {"input_layer1": ("manual", -1.0, 1.0)})
