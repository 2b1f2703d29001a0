"""The integer half of optimize: ranges, precision, weights, and what wins accuracy back, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.engines.float_ort import TappedSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.memory import give_back
from mz.flow.calibration import CalibrationSet, Images, calibrate, some, without
from mz.flow.options import Note, Progress, Step, no_note
from mz.flow.range_method import RangeTrials, with_range_method
from mz.flow.recipe import Plan
from mz.flow.trials import Apart
from mz.flow.tune import judging, tune
from mz.graph import Graph, Params, Precision, Quantization, Weighted
from mz.quantize import (
    Recipe,
    Refinements,
    Statistics,
    as_seen,
    choose_four_bit,
    choose_sixteen_bit,
    enough_images,
    histograms,
    image_bytes,
    image_count,
    image_limit,
    in_chunks,
    quantize,
    refine,
    rounds_to_second_order,
    sensitivities,
    visible_ends,
)
from mz.report.statistics import SnrMeter
from mz.threads import side_by_side

NOISE_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Integers:
    """A quantized network. recipe: with every choice made.

    report: per-layer noise, sensitivities, and what calibration saw.
    """

    quantization: Quantization
    recipe: Recipe
    steps: tuple[Step, ...]
    report: dict[str, Any]


def quantize_network(
    graph: Graph,
    params: Params,
    images: CalibrationSet,
    recipe: Recipe,
    plan: Plan,
    progress: Progress,
    tuned_on: CalibrationSet | None = None,
    note: Note = no_note,
    apart: Apart | None = None,
) -> Integers:
    """Calibrates and quantizes a float network by the recipe, and by what the plan says beyond it.

    tuned_on: the images that gradient-based algorithms learn from, where the plan has any. apart: see
    `with_range_method`.
    """
    give_back()
    recipe, tried = with_range_method(graph, params, recipe, images.sample, plan.refinements, progress, apart)
    give_back()
    statistics, sample = calibrate(graph, params, images, progress, note)
    give_back()
    steps = [_ranges_step(recipe, tried, plan.refinements.rounding)]
    report: dict[str, Any] = {}
    for bits, share in ((4, plan.four_bit_share), (16, plan.sixteen_bit_share)):
        if share:
            recipe, step, found = _share_out(graph, params, statistics, recipe, bits, share, sample, progress)
            steps.append(step)
            report["sensitivity" if bits == 4 else "sensitivity_8bit"] = found
    quantization = quantize(graph, params, statistics, recipe)
    report["activations"] = histograms(statistics)
    refinements, walked, heard = plan.refinements, _walked(graph, recipe, sample), some(sample, NOISE_IMAGES)
    del statistics, sample  # 0.2 GB beside the largest steps
    give_back()
    if plan.tuning and tuned_on is not None:
        walked = without(walked, judging(tuned_on, plan.tuning))
    if refinements.rounding or refinements.bias_correction:
        layers = sum(not layer.host for layer in graph.layers)
        with progress("rounding and bias", layers, "layers") as advance:
            quantization = refine(
                graph,
                params,
                quantization,
                recipe,
                walked,
                refinements,
                seed=plan.seed,
                layer_done=lambda name: advance(1),
            )
    steps += _refinement_steps(graph, quantization, refinements, len(next(iter(walked.values()))))
    quantization, tuning_steps, tuning_report = tune(
        graph,
        params,
        quantization,
        plan.tuning,
        tuned_on,
        walked,
        recipe,
        plan.seed,
        progress,
        bias_correction=refinements.bias_correction,
    )
    steps += tuning_steps
    report |= tuning_report
    del walked
    give_back()
    report["noise"] = layer_noise(graph, params, quantization, heard)
    return Integers(quantization, recipe, tuple(steps), report)


def layer_noise(
    graph: Graph, params: Params, quantization: Quantization, images: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Signal-to-noise ratio in dB of every accelerator layer of the full integer network, and of its outputs
    together. What no reader of a tensor can tell apart, as a hard swish values below -3, is no noise.
    """
    inside = [layer.name for layer in graph.layers if not layer.host]
    count = len(next(iter(images.values())))
    exact = TappedSession(graph, params)
    engine = IntegerOrtSession(graph, params, quantization, taps=inside)
    meters = {name: SnrMeter() for name in inside}
    output = SnrMeter()

    ends = visible_ends(graph, params)

    def measure(meter: SnrMeter, name: str) -> None:
        real, seen = quantization.tensors[name].dequantize(integers[name]), ends.get(name)
        meter.update(as_seen(expected[name], seen), as_seen(real, seen))

    for part in in_chunks(images, image_bytes(graph)):
        expected, integers = exact.run(part), engine.run(part)
        side_by_side(lambda name: measure(meters[name], name), inside)
        for name in graph.accelerator_outputs():
            measure(output, name)
    layers = {name: round(min(meter.db, 200.0), 2) for name, meter in meters.items()}
    return {"output_db": round(min(output.db, 200.0), 2), "layers": layers, "images": count}


def _walked(graph: Graph, recipe: Recipe, sample: Mapping[str, np.ndarray]) -> Images:
    """As many of the sample as a walk takes."""
    available = len(next(iter(sample.values())))
    four_bit = any(recipe.precision_of(layer.name).weight_bits == 4 for layer in graph.weighted)
    return some(sample, image_count(graph, available, four_bit=four_bit))


def _share_out(
    graph: Graph,
    params: Params,
    statistics: Statistics,
    recipe: Recipe,
    bits: int,
    share: float,
    sample: Mapping[str, np.ndarray],
    progress: Progress,
) -> tuple[Recipe, Step, dict[str, float]]:
    """Puts the weights of the least sensitive layers to 4 bits, or those of the most sensitive to 16.

    A layer keeps the precision that the script gives it, and 4 bits that it was given before.
    """
    images = some(sample, min(enough_images(graph), image_limit(graph)))
    weighted = graph.weighted
    with progress("sensitivity", len(weighted), "layers") as advance:
        found = sensitivities(
            graph,
            params,
            quantize(graph, params, statistics, recipe),
            images,
            per_layer_scale=recipe.per_layer_weight_scale,
            bits=min(bits, 8),
            layer_done=lambda name: advance(1),
        )
    if bits == 4:
        chosen = choose_four_bit(found, share) - set(recipe.layer_precisions)
    else:
        chosen = choose_sixteen_bit([s for s in found if s.layer not in recipe.layer_precisions], share)
    precision = Precision(recipe.precision.activation_bits, bits)
    precisions = dict(recipe.layer_precisions) | dict.fromkeys(sorted(chosen), precision)
    reached = sum(s.weights for s in found if s.layer in chosen) / sum(s.weights for s in found)
    step = Step(
        f"{bits}-bit weights",
        True,
        bool(chosen),
        f"{len(chosen)} layers, {100 * reached:.0f} % of the weights",
    )
    return dataclasses.replace(recipe, layer_precisions=precisions), step, {s.layer: s.noise for s in found}


def _ranges_step(recipe: Recipe, tried: RangeTrials, rounding: bool) -> Step:
    searched = "the output, with the rounding" if rounding else "least squares"
    weights = searched if recipe.weight_search else "largest weight"
    names = {"l3": "least cubes", "mse": "least squares", "l1_5": "least |error|^1.5", "min_max": "min/max"}
    names["auto"] = names["min_max"]
    method = names[recipe.activation_range.method]
    others = [
        f"{how}{', '.join(f'{names[name]} {db:.1f} dB' for name, db in found.items())}"
        for how, found in (("", tried.rounded), ("refined: ", tried.refined))
        if found
    ]
    note = f"activations by {method}" + (f" ({'; '.join(others)})" if others else "")
    return Step("ranges", True, True, f"{note}, weights by {weights}, {recipe.precision}")


def _refinement_steps(
    graph: Graph, quantization: Quantization, asked: Refinements, images: int
) -> list[Step]:
    """The lines of rounding and bias correction. Layers that keep nearest rounding are named."""
    later = "begins at optimization level 1"
    nearest = [
        layer.name
        for layer in graph.layers
        if isinstance(layer, Weighted)
        and layer.name in quantization.weights
        and not rounds_to_second_order(layer, quantization.weights[layer.name].kernel.shape)
    ]
    weighted = len(quantization.weights)
    note = f"{weighted - len(nearest)} layers, second order, {images} images"
    if nearest:
        note += f"; to nearest: {', '.join(nearest)}"
    return [
        Step("rounding", asked.rounding, asked.rounding, note if asked.rounding else later),
        Step(
            "bias correction",
            asked.bias_correction,
            asked.bias_correction,
            f"{weighted} layers, {images} images" if asked.bias_correction else later,
        ),
    ]
