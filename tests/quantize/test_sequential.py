"""Bias correction and the walk that refines layer by layer, judged by the numpy emulator."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.quantize.networks import LINEAR_KINDS, images, layer_and_kernel, residual_network

from mz.emulator import NumpySession, layer_constants
from mz.emulator.linear import linear_sums
from mz.engines.float_ort import FloatSession
from mz.graph import Graph, Input, Precision, Weighted
from mz.quantize import Recipe, Refinements, collect, compensation, image_count, quantize, refine
from mz.quantize.bias_correction import mean_output


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_the_output_of_the_mean_is_the_mean_of_the_output(kind):
    layer, shape, kernel = layer_and_kernel(kind, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(0.5, 1, (6, *shape))
    sums = linear_sums(layer, x, kernel.astype(np.float64))
    channel = -1 if kind.startswith("dense") else 1
    wanted = np.moveaxis(sums, channel, 0).reshape(sums.shape[channel], -1).mean(axis=1)
    np.testing.assert_allclose(mean_output(layer, kernel, x.mean(axis=0)), wanted, atol=1e-9)


@cache
def quantized(precision: str, search: bool = True, per_layer: bool = False):
    """The network, its float session with every tensor tapped, calibration images, and nearest rounding."""
    graph, params = residual_network()
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    x = images(48)
    statistics = collect(session, [x], 1)
    recipe = Recipe(Precision.parse(precision), weight_search=search, per_layer_weight_scale=per_layer)
    return graph, params, session, x, quantize(graph, params, statistics, recipe), recipe


@cache
def refined(
    precision: str, rounding: bool, bias: bool, seed: int = 0, search: bool = True, per_layer: bool = False
):
    graph, params, _, x, plain, recipe = quantized(precision, search, per_layer)
    return refine(graph, params, plain, recipe, x, Refinements(rounding, bias), seed=seed)


def same(a, b) -> bool:
    return all(
        np.array_equal(a.weights[name].kernel, b.weights[name].kernel)
        and np.array_equal(a.weights[name].bias, b.weights[name].bias)
        for name in a.weights
    )


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a16_w8", "a4_w4"])
@pytest.mark.parametrize("search", [False, True])
def test_integers_stay_in_range_and_scales_stay_that_are_not_searched(precision, search):
    graph, params, _, _, plain, _ = quantized(precision, search)
    before = {name: (w.kernel.copy(), w.bias.copy()) for name, w in plain.weights.items()}
    found = refined(precision, True, True, search=search)
    assert found.tensors == plain.tensors
    for name, weight in found.weights.items():
        old = plain.weights[name]
        assert weight.scale.dtype == np.float32 and (weight.scale > 0).all()
        assert search or np.array_equal(weight.scale, old.scale)
        assert (weight.bits, weight.kernel.dtype, weight.bias.dtype) == (old.bits, old.kernel.dtype, np.int64)
        assert np.abs(weight.kernel.astype(int)).max() <= 2 ** (weight.bits - 1) - 1
        layer_constants(graph, graph[name], params, found)
        np.testing.assert_array_equal(old.kernel, before[name][0])
        np.testing.assert_array_equal(old.bias, before[name][1])


def test_a_seed_gives_one_result():
    graph, params, _, x, plain, recipe = quantized("a8_w4")
    again = refine(graph, params, plain, recipe, x, Refinements(), seed=0)
    assert same(again, refined("a8_w4", True, True))
    assert not same(again, plain)


def test_nothing_asked_for_changes_nothing():
    assert same(refined("a8_w4", False, False), quantized("a8_w4")[-2])


def test_each_refinement_touches_its_own_part():
    plain = quantized("a8_w4", False)[-2]
    rounded = refined("a8_w4", True, False, search=False)
    corrected = refined("a8_w4", False, True, search=False)
    for name, weight in plain.weights.items():
        np.testing.assert_array_equal(rounded.weights[name].bias, weight.bias)
        np.testing.assert_array_equal(corrected.weights[name].kernel, weight.kernel)
    assert not np.array_equal(rounded.weights["conv2"].kernel, plain.weights["conv2"].kernel)
    assert not np.array_equal(rounded.weights["deconv1"].kernel, plain.weights["deconv1"].kernel)


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a16_w8"])
@pytest.mark.parametrize("rounding", [False, True])
def test_bias_correction_leaves_no_mean_shift(precision, rounding):
    """Mean pre-activation of the integer network against the float one: half a step of the bias at most."""
    graph, params, session, x, plain, _ = quantized(precision)
    found = refined(precision, rounding, True)
    weighted = [layer for layer in graph.layers if isinstance(layer, Weighted)]
    real = session.run(x)
    shifts_before = 0.0
    for quantization in (found, plain):
        integers = NumpySession(graph, params, quantization, [layer.name for layer in graph.layers]).run(x)
        for layer in weighted:
            weight, t = quantization.weights[layer.name], quantization.tensors[layer.inputs[0]]
            step = float(t.scale) * weight.scale.astype(np.float64)
            centred = (integers[layer.inputs[0]] - t.zero_point).astype(np.float64)
            got = _mean_sums(layer, centred, weight.kernel) + weight.bias
            wanted = (
                _mean_sums(layer, real[layer.inputs[0]], params[layer.name]["kernel"])
                + params[layer.name]["bias"]
            )
            shift = np.abs(got - wanted / step)
            if quantization is found:
                assert shift.max() <= 0.51
            else:
                shifts_before = max(shifts_before, shift.max())
    assert shifts_before > 1


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4"])
def test_one_scale_a_layer_stays_one(precision):
    for weight in refined(precision, True, True, per_layer=True).weights.values():
        assert len(np.unique(weight.scale)) == 1


@pytest.mark.parametrize("precision", ["a8_w4", "a8_w8"])
def test_new_images_come_out_closer_to_float(precision):
    graph, params, session, _, plain, _ = quantized(precision)
    fresh = images(64, seed=9)
    wanted = session.run(fresh)["fc1"]

    def noise(quantization) -> float:
        q = NumpySession(graph, params, quantization).run(fresh)["fc1"]
        return float(((quantization.tensors["fc1"].dequantize(q) - wanted) ** 2).sum())

    assert noise(refined(precision, True, True)) < noise(plain)


@pytest.mark.parametrize(("precision", "most"), [("a8_w4", 0.9), ("a4_w8", 1.0)])
def test_later_layers_make_good_what_earlier_ones_have_done(precision, most, monkeypatch):
    """Noise on new images against the same walk with every layer's own weights, over several networks."""
    ratios = []
    for seed in range(6):
        graph, params = residual_network(seed)
        session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
        x, fresh = images(96, seed), images(64, seed + 100)
        recipe = Recipe(Precision.parse(precision))
        plain = quantize(graph, params, collect(session, [x], 1), recipe)
        wanted = session.run(fresh)["fc1"]
        noise = []
        for ridges in (compensation.RIDGES, ()):
            with monkeypatch.context() as patch:
                patch.setattr(compensation, "RIDGES", ridges)
                found = refine(graph, params, plain, recipe, x, Refinements())
            q = NumpySession(graph, params, found).run(fresh)["fc1"]
            noise.append(((found.tensors["fc1"].dequantize(q) - wanted) ** 2).sum())
        ratios.append(noise[0] / noise[1])
    assert np.median(ratios) < most


@pytest.mark.parametrize(("precision", "wanted"), [("a16_w16", False), ("a8_w16", True), ("a16_w8", True)])
def test_what_has_16_bits_before_and_in_it_takes_up_no_noise(precision, wanted, monkeypatch):
    """What is fitted to errors as small as these is fitted to chance."""
    asked: list[int] = []

    def noted(rows, samples, *rest):
        asked.append(len(rows))
        return compensation.compensated(rows, samples, *rest)

    monkeypatch.setattr("mz.quantize.sequential.compensated", noted)
    graph, params, _, x, plain, recipe = quantized(precision)
    refine(graph, params, plain, recipe, x, Refinements())
    assert bool(asked) == wanted


def test_progress_names_every_layer_but_inputs():
    graph, params, _, x, plain, recipe = quantized("a8_w8")
    seen: list[str] = []
    few = {"x": x["x"][:2]}
    refine(graph, params, plain, recipe, few, Refinements(False, True), layer_done=seen.append)
    assert seen == [layer.name for layer in graph.layers[1:]]


@pytest.mark.parametrize(("available", "wanted"), [(10, 10), (1000, 256)])
def test_a_walk_takes_the_images_that_memory_allows(available, wanted):
    assert image_count(residual_network()[0], available) == wanted


def test_four_bits_get_twice_the_images_of_large_tensors():
    big = Graph("big", (Input(name="x", inputs=(), shape=(3, 1024, 1024)),), ("x",))
    assert (image_count(big, 1000), image_count(big, 1000, four_bit=True)) == (42, 85)
    assert image_count(big, 50, four_bit=True) == 50


def _mean_sums(layer, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    sums = linear_sums(layer, np.asarray(x, np.float64), kernel.astype(np.float64))
    channel = -1 if layer.kind == "dense" else 1
    return np.moveaxis(sums, channel, 0).reshape(sums.shape[channel], -1).mean(axis=1)
