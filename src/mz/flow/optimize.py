"""The optimize stage: the recipe in force, calibration, quantization, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mz import data, tasks, zoo
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.flow.networks import configuration, load, only_input, working_arch
from mz.flow.options import (
    ModelRef,
    Note,
    OptimizeOptions,
    OptimizeResult,
    Progress,
    Step,
    no_note,
    no_progress,
)
from mz.flow.recipe import Plan, in_force, plan_recipe, script_settings
from mz.graph import Graph, Params, Precision, Quantization, Weighted
from mz.quantize import (
    SHARES,
    ActivationRange,
    Recipe,
    Refinements,
    Statistics,
    best_method,
    choose_four_bit,
    collect,
    image_bytes,
    image_count,
    in_chunks,
    output_noise_by_method,
    quantize,
    refine,
    rounds_to_second_order,
    sensitivities,
)
from mz.report.statistics import SnrMeter
from mz.script import ScriptSettings, render

SENSITIVITY_IMAGES = 32
NOISE_IMAGES = 32
CHOICE_IMAGES = 64


def optimize(
    ref: ModelRef, options: OptimizeOptions, *, progress: Progress = no_progress, note: Note = no_note
) -> OptimizeResult:
    """Quantizes the network that `ref` names.

    An archive is taken up at its parsed (or full-precision-optimized) network; integers that it holds are made anew.
    A recipe that cannot be honoured, where the options allow no fallback, ends before any work: the steps say why and
    the archive is as it came.
    """
    archive = load(ref, hw_arch=options.hw_arch, note=note, progress=progress)
    config = configuration(archive, ref)
    arch = working_arch(archive, options.hw_arch)
    graph, params = archive.working_graph, archive.working_params
    settings = script_settings(options.script or zoo.script_path(config), graph)
    plan = plan_recipe(graph, arch, settings, options)
    if plan.refused and not options.allow_fallback:
        return OptimizeResult(archive, plan.refused, {})

    dataset = data.open_calibration(config, options.calib_path, plan.calib_count)
    note(f"calibration: {len(dataset)} images of {dataset.name}")
    session, statistics, sample = _calibrate(graph, params, dataset, tasks.load(config), plan, progress)
    wanted = len(next(iter(sample.values())))

    plan, tried = _with_range_method(graph, params, session, plan, sample)
    steps = [_ranges_step(plan.recipe, tried)]
    recipe = plan.recipe
    if plan.compression_level:
        recipe, step, found = _compress(graph, params, statistics, plan, settings, sample, progress)
        steps.append(step)
    quantization = quantize(graph, params, statistics, recipe)
    refinements = plan.refinements
    if refinements.rounding or refinements.bias_correction:
        layers = sum(not layer.host for layer in graph.layers)
        with progress("rounding and bias", layers, "layers") as advance:
            quantization = refine(
                graph,
                params,
                quantization,
                sample,
                session,
                refinements,
                seed=plan.seed,
                layer_done=lambda name: advance(1),
            )
    steps += _refinement_steps(graph, quantization, refinements, wanted)
    steps += plan.refused

    noise = layer_noise(graph, params, quantization, _some(sample, NOISE_IMAGES))
    worst = sorted(noise["layers"].items(), key=lambda item: item[1])[:3]
    note(f"output SNR on calibration images {noise['output_db']:.1f} dB; noisiest layers " + _listed(worst))
    set_name = options.calib_path.name if options.calib_path else dataset.name
    described = recipe.to_dict(graph) | {
        "optimization_level": plan.optimization_level,
        "compression_level": plan.compression_level,
        "rounding": "second_order" if refinements.rounding else "nearest",
        "bias_correction": refinements.bias_correction,
        "hw_arch": arch.name,
        "calibration": {"dataset": set_name, "count": len(dataset), "batch_size": plan.batch_size},
        "seed": plan.seed,
    }
    report = dict(archive.report) | {
        "optimize": {"steps": [dataclasses.asdict(s) for s in steps], "noise": noise}
    }
    if plan.compression_level:
        report["optimize"]["sensitivity"] = {s.layer: s.noise for s in found}
    optimized = dataclasses.replace(
        archive,
        state="quantized",
        hw_arch=arch.name,
        quantization=quantization,
        script=render(in_force(graph, settings, plan, recipe, len(dataset))),
        report=report,
        history=[entry for entry in archive.history if entry["stage"] == "parse"]
        + [{"stage": "optimize", "settings": described}],
        artefacts={},
    )
    return OptimizeResult(optimized, tuple(steps), described)


def _calibrate(
    graph: Graph,
    params: Params,
    dataset: data.Dataset,
    task: tasks.Task,
    plan: Plan,
    progress: Progress,
) -> tuple[FloatSession, Statistics, dict[str, np.ndarray]]:
    """One pass over the calibration set: the float session with all tensors tapped, their statistics, and the images
    that later steps look at again, evenly spaced over the set.
    """
    feed = only_input(graph)
    inside = [layer.name for layer in graph.layers if not layer.host]
    session = FloatSession(graph, params, taps=inside)
    wanted = image_count(graph, len(dataset))
    places = np.arange(wanted) * len(dataset) // wanted
    kept: list[np.ndarray] = []

    def batches() -> Iterator[dict[str, np.ndarray]]:
        start = 0
        with progress("calibration", len(dataset)) as advance:
            for images, _ in data.batches(dataset, task.preprocess_batch, plan.batch_size):
                stop = start + len(images)
                kept.append(images[places[(places >= start) & (places < stop)] - start])
                yield {feed: images}
                advance(len(images))
                start = stop

    statistics = collect(session, batches(), image_bytes(graph))
    return session, statistics, {feed: np.concatenate(kept)}


def _some(images: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """At most `count` of the images, evenly spaced."""
    size = len(next(iter(images.values())))
    chosen = np.arange(min(count, size)) * size // min(count, size)
    return {name: value[chosen] for name, value in images.items()}


def layer_noise(
    graph: Graph, params: Params, quantization: Quantization, images: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Signal-to-noise ratio in dB of every accelerator layer of the full integer network, and of its outputs
    together.
    """
    inside = [layer.name for layer in graph.layers if not layer.host]
    count = len(next(iter(images.values())))
    exact = FloatSession(graph, params, taps=inside)
    engine = IntegerOrtSession(graph, params, quantization, taps=inside)
    meters = {name: SnrMeter() for name in inside}
    output = SnrMeter()
    for some in in_chunks(images, image_bytes(graph)):
        expected, integers = exact.run(some), engine.run(some)
        for name in inside:
            real = quantization.tensors[name].dequantize(integers[name])
            meters[name].update(expected[name], real)
            if name in graph.accelerator_outputs():
                output.update(expected[name], real)
    layers = {name: round(min(meter.db, 200.0), 2) for name, meter in meters.items()}
    return {"output_db": round(min(output.db, 200.0), 2), "layers": layers, "images": count}


def _compress(
    graph: Graph,
    params: Params,
    statistics: Any,
    plan: Plan,
    settings: ScriptSettings,
    sample: Mapping[str, np.ndarray],
    progress: Progress,
) -> tuple[Recipe, Step, list[Any]]:
    """Puts the least sensitive layers' weights to 4 bits; a layer that the script gives a precision keeps it."""
    images = _some(sample, SENSITIVITY_IMAGES)
    weighted = [layer for layer in graph.layers if isinstance(layer, Weighted) and not layer.host]
    with progress("sensitivity", len(weighted), "layers") as advance:
        found = sensitivities(
            graph,
            params,
            quantize(graph, params, statistics, plan.recipe),
            images,
            lambda changed: FloatSession(graph, changed),
            per_layer_scale=plan.recipe.per_layer_weight_scale,
            layer_done=lambda name: advance(1),
        )
    share = SHARES[plan.compression_level]
    chosen = choose_four_bit(found, share) - set(settings.precisions)
    bits = plan.recipe.precision.activation_bits
    precisions = dict(plan.recipe.layer_precisions) | dict.fromkeys(sorted(chosen), Precision(bits, 4))
    reached = sum(s.weights for s in found if s.layer in chosen) / sum(s.weights for s in found)
    step = Step(
        "4-bit weights", True, bool(chosen), f"{len(chosen)} layers, {100 * reached:.0f} % of the weights"
    )
    return dataclasses.replace(plan.recipe, layer_precisions=precisions), step, found


def _with_range_method(
    graph: Graph, params: Params, session: FloatSession, plan: Plan, sample: Mapping[str, np.ndarray]
) -> tuple[Plan, dict[str, float]]:
    """The plan with the range method that measures best where it leaves the choice open, and what each one measured.

    Ranges are found on half of the sample and judged on the other: on the images that it has seen, clipping looks
    better than it is.
    """
    if plan.recipe.activation_range.method != "auto" or plan.recipe.precision.activation_bits > 8:
        return plan, {}
    seen = _some({name: value[::2] for name, value in sample.items()}, CHOICE_IMAGES)
    other = _some(
        {name: value[1::2] if len(value) > 1 else value for name, value in sample.items()}, NOISE_IMAGES
    )
    statistics = collect(session, [seen], image_bytes(graph))
    tried = output_noise_by_method(graph, params, statistics, plan.recipe, other)
    method = best_method(tried)
    recipe = dataclasses.replace(plan.recipe, activation_range=ActivationRange(method))
    return dataclasses.replace(plan, recipe=recipe), tried


def _ranges_step(recipe: Recipe, tried: Mapping[str, float]) -> Step:
    weights = "least squares" if recipe.weight_search else "largest weight"
    names = {"auto": "min/max", "l3": "least cubes", "mse": "least squares", "min_max": "min/max"}
    method = names[recipe.activation_range.method]
    others = [f"{names[name]} {db:.1f} dB" for name, db in tried.items()]
    note = f"activations by {method}" + (f" ({', '.join(others)})" if others else "")
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


def _listed(layers: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {db:.1f} dB" for name, db in layers)
