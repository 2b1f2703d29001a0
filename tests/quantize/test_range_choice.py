"""Which range method a network gets is measured on its outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.quantize.networks import images, residual_network

from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.graph import Precision
from mz.quantize import ActivationRange, Recipe, Trial, collect, output_noise_by_method, quantize
from mz.quantize.range_choice import CANDIDATES, REFINED_CANDIDATES, best_method, contenders, refined_best


def measured(recipe: Recipe, outlier: float = 1.0) -> dict[str, float]:
    graph, params = residual_network()
    x = images(24)
    name = next(iter(x))
    x[name][0, 0, 0, 0] *= outlier
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    return output_noise_by_method(Trial(graph, params, x), graph, params, collect(session, [x], 1), recipe)


def test_every_candidate_is_measured_as_the_emulator_would():
    graph, params = residual_network()
    x = images(24)
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    statistics = collect(session, [x], 1)
    found = output_noise_by_method(Trial(graph, params, x), graph, params, statistics, Recipe())
    assert tuple(found) == CANDIDATES
    recipe = Recipe(
        precision=Precision(8, 16), activation_range=ActivationRange("min_max"), weight_search=False
    )
    quantization = quantize(graph, params, statistics, recipe)
    integers, real = NumpySession(graph, params, quantization).run(x), session.run(x)
    decibels = []
    for name in graph.accelerator_outputs():
        error = quantization.tensors[name].dequantize(integers[name]) - real[name]
        decibels.append(10 * np.log10(np.square(real[name]).sum() / np.square(error).sum()))
    np.testing.assert_allclose(found["min_max"], np.mean(decibels), rtol=1e-4)


def test_an_outlier_speaks_against_the_extremes():
    """At 4 bits, one wild pixel makes min/max throw away what all other images say."""
    found = measured(Recipe(precision=Precision(4, 8)), outlier=30.0)
    assert max(found["l3"], found["mse"]) > found["min_max"]


def test_ranges_set_layer_by_layer_stay():
    graph, _ = residual_network()
    fixed = {layer.name: ActivationRange("manual", (-4.0, 4.0)) for layer in graph.layers}
    found = measured(dataclasses.replace(Recipe(), layer_ranges=fixed))
    assert len(set(found.values())) == 1


def test_cubes_stay_unless_another_is_clearly_better():
    assert best_method({"l3": 20.0, "min_max": 19.0, "mse": 20.9, "l1_5": 18.0}) == "l3"
    assert best_method({"l3": 20.0, "min_max": 19.0, "mse": 21.1, "l1_5": 18.0}) == "mse"
    assert best_method({"l3": 20.0, "min_max": 22.0, "mse": 21.1, "l1_5": 18.0}) == "min_max"


def test_what_clips_more_must_be_clearly_better_than_what_clips_less():
    assert best_method({"l3": 10.0, "min_max": 11.0, "mse": 13.0, "l1_5": 13.5}) == "mse"
    assert best_method({"l3": 10.0, "min_max": 11.0, "mse": 13.0, "l1_5": 14.5}) == "l1_5"


def test_where_integers_are_refined_what_measures_alike_contends_and_a_quarter_of_a_decibel_decides():
    assert contenders({"l3": 20.0, "mse": 20.9, "l1_5": 19.0}, 8) == ["l3", "mse"]
    assert contenders({"l3": 20.0, "mse": 20.9, "l1_5": 23.0}, 8) == ["l1_5"]
    assert contenders({"l3": 20.0, "mse": 18.5, "l1_5": 21.5}, 8) == ["l3", "l1_5"], "it clips less"
    assert contenders({"l3": 20.0, "mse": 21.5, "l1_5": 19.8}, 8) == ["l3", "mse"]
    assert contenders({"l3": 20.0, "mse": 21.5, "l1_5": 23.0}, 4) == ["mse", "l1_5"]
    assert refined_best({"l3": 25.0, "mse": 25.2}) == "l3"
    assert refined_best({"l3": 25.0, "mse": 25.3}) == "mse"
    assert refined_best({"mse": 25.3, "l1_5": 25.3}) == "mse"


def test_only_the_methods_asked_for_are_measured():
    graph, params = residual_network()
    x = images(8)
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    statistics = collect(session, [x], 1)
    tried = Trial(graph, params, x), graph, params, statistics, Recipe()
    found, whole = output_noise_by_method(*tried, REFINED_CANDIDATES), output_noise_by_method(*tried)
    assert found == {name: whole[name] for name in REFINED_CANDIDATES}
