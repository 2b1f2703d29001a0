"""What every layer alone adds to the outputs' noise, and what the whole integer network shows of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.quantize.networks import images, residual_network

from mz.engines.float_ort import FloatSession
from mz.flow.integers import layer_noise
from mz.graph import Activation, Conv, Graph, Input, Precision, Quantization, TensorQuant, Weighted
from mz.quantize import Recipe, collect, image_bytes, noise_alone, observe, quantize
from mz.quantize.remainder import places
from mz.quantize.weights import dequantize_kernel


def quantized(precision: str = "a8_w8", **precisions: Precision) -> Quantization:
    graph, params = residual_network()
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    recipe = Recipe(precision=Precision.parse(precision), layer_precisions=precisions)
    return quantize(graph, params, collect(session, [images(16)], image_bytes(graph)), recipe)


def share(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    return float(((found["fc1"] - expected["fc1"]) ** 2).sum() / (expected["fc1"] ** 2).sum())


def test_a_tensor_that_is_not_changed_adds_nothing():
    graph, params = residual_network()
    names = []
    for place in places(graph, params, images(3)):
        assert place.noise(place.output) < 1e-12
        names.append(place.layer.name)
    assert names == [layer.name for layer in graph.layers]


def test_every_tensor_is_the_float_networks_own():
    graph, params = residual_network()
    whole = FloatSession(graph, params, taps=[layer.name for layer in graph.layers]).run(images(3))
    for place in places(graph, params, images(3)):
        np.testing.assert_allclose(place.output, whole[place.layer.name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["conv2", "fc1"])
def test_a_shift_of_a_tensor_is_what_a_shifted_bias_does(name: str):
    """Both layers have no clip, so that their biases move their tensors and nothing else."""
    graph, params = residual_network()
    shifted = params | {name: params[name] | {"bias": params[name]["bias"] + np.float32(0.5)}}
    expected, found = (FloatSession(graph, p).run(images(4)) for p in (params, shifted))
    (place,) = (p for p in places(graph, params, images(4)) if p.layer.name == name)
    assert place.noise(place.output + np.float32(0.5)) == pytest.approx(share(found, expected), rel=1e-4)


@pytest.mark.parametrize("name", ["conv1", "dw1", "deconv1", "fc1"])
def test_noise_of_weights_is_that_of_the_network_with_those_weights(name: str):
    graph, params = residual_network()
    quantization = quantized("a8_w4")
    layer = graph[name]
    assert isinstance(layer, Weighted)
    weight = quantization.weights[name]
    step = quantization.tensors[layer.inputs[0]].scale * weight.scale
    own = {"kernel": dequantize_kernel(layer, weight), "bias": (weight.bias * step).astype(np.float32)}
    expected, found = (FloatSession(graph, p).run(images(4)) for p in (params, params | {name: own}))
    alone = noise_alone(graph, params, quantization, images(4), bias_corrected=False)
    assert alone[name].weights == pytest.approx(share(found, expected), rel=1e-3)


def test_a_corrected_bias_takes_a_layers_own_shift_back():
    graph, params = residual_network()
    quantization = quantized()
    weight = quantization.weights["conv2"]
    quantization.weights["conv2"] = dataclasses.replace(weight, bias=weight.bias + 1000)
    as_it_is, corrected = (
        noise_alone(graph, params, quantization, images(4), bias_corrected=flag)["conv2"].weights
        for flag in (False, True)
    )
    assert corrected < as_it_is / 100


def test_weights_that_make_good_what_earlier_layers_do_count_as_their_rounding():
    """All weights of a layer a few steps off: more bits would not take that away, as it was meant."""
    graph, params = residual_network()
    plain, fitted = quantized(), quantized()
    weight = fitted.weights["conv2"]
    moved = np.clip(weight.kernel.astype(np.int16) + np.int16(5), -127, 127).astype(np.int8)
    fitted.weights["conv2"] = dataclasses.replace(weight, kernel=moved)
    as_rounded, as_fitted = (
        noise_alone(graph, params, one, images(4), bias_corrected=True)["conv2"] for one in (plain, fitted)
    )
    assert as_fitted == as_rounded
    uncorrected = noise_alone(graph, params, fitted, images(4), bias_corrected=False)["conv2"]
    assert uncorrected.weights > 10 * as_rounded.weights


def test_layers_that_move_integers_add_nothing_and_more_bits_add_less():
    graph, params = residual_network()
    few, many = (
        noise_alone(graph, params, quantized(p), images(4), bias_corrected=False)
        for p in ("a8_w8", "a16_w16")
    )
    assert "pool1" not in few and "flat1" not in few
    assert list(few) == [name for name in graph.by_name if name in few]
    assert all(many[name].both < few[name].both / 1000 for name in few)


def test_layers_alone_add_up_to_about_the_noise_of_the_whole():
    graph, params = residual_network()
    quantization = quantized()
    alone = noise_alone(graph, params, quantization, images(16), bias_corrected=False)
    observed, noise = observe(graph, params, quantization, images(16))
    assert list(observed) == [layer.name for layer in graph.layers]
    assert sum(own.both for own in alone.values()) == pytest.approx(noise, rel=1.0)


def test_shifts_clipping_and_dead_ranges_are_seen():
    graph, params = residual_network()
    quantization = quantized()
    before, _ = observe(graph, params, quantization, images(8))
    weight, tensor = quantization.weights["fc1"], quantization.tensors["fc1"]
    step = quantization.tensors["flat1"].scale * weight.scale
    shift = np.rint(3 * tensor.scale / step).astype(np.int64)
    quantization.weights["fc1"] = dataclasses.replace(weight, bias=weight.bias + shift)
    conv = quantization.tensors["conv2"]
    quantization.tensors["conv2"] = TensorQuant(np.float32(conv.scale / 4), conv.zero_point, 8)
    quantization.tensors["add1"] = quantization.tensors["pool1"] = TensorQuant(
        np.float32(quantization.tensors["add1"].scale * 4), quantization.tensors["add1"].zero_point, 8
    )
    after, _ = observe(graph, params, quantization, images(8))
    assert after["fc1"].bias_shift_max > before["fc1"].bias_shift_max + 1
    assert after["conv2"].clipped > max(before["conv2"].clipped, 0.05)
    assert after["add1"].dead > 0.6
    assert all(0 <= seen.dead < 1 and 0 <= seen.clipped <= 1 for seen in after.values())


@pytest.mark.parametrize("function", ["hard_swish", "gelu"])
def test_what_a_reader_cannot_tell_apart_is_no_noise(function: str):
    """The range is cut at -3, where a hard swish ends."""
    shape = (2, 4, 4)
    source = Input(name="x", inputs=(), shape=shape)
    conv = Conv(name="conv", inputs=("x",), shape=shape, kernel_shape=(1, 1))
    reader = Activation(name="y", inputs=("conv",), shape=shape, function=function)
    graph = Graph("net", (source, conv, reader), ("y",))
    params = {
        "conv": {"kernel": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1), "bias": np.zeros(2, np.float32)}
    }
    x = {"x": np.random.default_rng(0).normal(-4, 4, (8, *shape)).astype(np.float32)}
    statistics = collect(FloatSession(graph, params, taps=["x", "conv"]), [x], image_bytes(graph))
    quantization = quantize(graph, params, statistics, Recipe())
    quantization.tensors["conv"] = TensorQuant(np.float32(15 / 255), 51, 8)
    observed, _ = observe(graph, params, quantization, x)
    noise = layer_noise(graph, params, quantization, x)
    for found in (observed["conv"].snr_db, noise["layers"]["conv"]):
        assert (found > 30) == (function == "hard_swish")
    assert (observed["conv"].bias_shift < 0.5) == (function == "hard_swish")
