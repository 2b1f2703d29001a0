"""What is gathered of the float network for the walk: means, and outputs before the clip at sampled places."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.quantize.networks import LINEAR_KINDS, images, layer_and_kernel, residual_network

from mz.engines.float_ort import TappedSession
from mz.graph import Dense, Graph, Input, TensorQuant
from mz.graph.layers import UNBOUNDED
from mz.quantize.covariance import at_places
from mz.quantize.float_targets import float_targets
from mz.quantize.statistics import in_chunks

SCALE = 0.25


def gathered(graph, params, x, *, bits: int = 8, scale: float = SCALE):
    tensors = {layer.name: TensorQuant(scale, 0, bits) for layer in graph.layers}
    return float_targets(graph, params, tensors, x, graph.weighted)


def unclipped(graph, params, x):
    """All tensors of the network, every layer with weights without its clip but reading what it reads with clips."""
    real = {name: values.copy() for name, values in TappedSession(graph, params).run(x).items()}
    for layer in graph.weighted:
        source = Input(name=layer.inputs[0], inputs=(), shape=graph[layer.inputs[0]].shape)
        alone = Graph("alone", (source, dataclasses.replace(layer, clip=UNBOUNDED)), (layer.name,))
        yield layer, TappedSession(alone, params).run({source.name: real[source.name]})[layer.name], real


def test_targets_are_the_outputs_before_the_clip_and_with_what_is_added():
    graph, params = residual_network()
    x = images(6)
    _, targets = gathered(graph, params, x)
    assert [name for name, target in targets.items() if target.summand] == ["conv2"]
    for layer, wanted, real in unclipped(graph, params, x):
        target = targets[layer.name]
        if target.summand:
            wanted = wanted + real[target.summand]
        found = at_places(layer, wanted, target.places) / SCALE
        np.testing.assert_allclose(target.steps, found, rtol=2e-3, atol=2e-3)
        assert target.steps.dtype == np.float16
        each = wanted[0].size // target.steps.shape[1]
        assert target.half == (target.places < 3 * each).sum()


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_every_kind_of_layer_has_targets(kind):
    layer, shape, kernel = layer_and_kernel(kind, np.random.default_rng(0))
    graph = Graph("one", (Input(name="x", inputs=(), shape=shape), layer), ("y",))
    channels = layer.shape[-1] if isinstance(layer, Dense) else layer.shape[0]
    params = {"y": {"kernel": kernel, "bias": np.linspace(-1, 1, channels).astype(np.float32)}}
    x = {"x": np.random.default_rng(1).normal(0, 1, (5, *shape)).astype(np.float32)}
    target = gathered(graph, params, x)[1]["y"]
    wanted = at_places(layer, TappedSession(graph, params).run(x)["y"], target.places) / SCALE
    np.testing.assert_allclose(target.steps, wanted, rtol=2e-3, atol=2e-3)


def test_parts_of_the_images_give_what_all_of_them_give(monkeypatch: pytest.MonkeyPatch):
    graph, params = residual_network()
    x = images(7)
    whole_means, whole = gathered(graph, params, x)
    monkeypatch.setattr("mz.quantize.statistics._TAPS_BYTES", 1)
    means, targets = gathered(graph, params, x)
    assert len(list(in_chunks(x, 1))) == 7
    for name, target in targets.items():
        np.testing.assert_array_equal(target.places, whole[name].places)
        np.testing.assert_allclose(target.steps, whole[name].steps, rtol=2e-3, atol=2e-3)
    real = TappedSession(graph, params).run(x)
    for name, mean in means.items():
        np.testing.assert_allclose(mean, whole_means[name], atol=1e-9)
        np.testing.assert_allclose(mean, real[name].mean(axis=0), atol=1e-5)


def test_an_output_far_beyond_its_range_is_kept_finite():
    graph, params = residual_network()
    params = params | {"fc1": params["fc1"] | {"bias": np.full(5, 1e30, np.float32)}}
    steps = gathered(graph, params, images(2))[1]["fc1"].steps
    assert np.isfinite(steps).all()


def test_targets_are_finer_than_a_step_of_16_bits():
    graph, params = residual_network()
    scale = 2.0**-15
    _, targets = gathered(graph, params, images(6), bits=16, scale=scale)
    for layer, wanted, real in unclipped(graph, params, images(6)):
        target = targets[layer.name]
        if target.summand:
            wanted = wanted + real[target.summand]
        found = at_places(layer, wanted, target.places) / scale
        assert np.abs(found).max() > 2**12  # where float16 has steps of 4
        np.testing.assert_allclose(target.steps, found, atol=0.1)
