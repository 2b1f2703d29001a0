"""The optimize stage: the recipe in force, full-precision passes, quantization, and the archive of what came of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from mz import data, tasks, zoo
from mz.archive import Archive
from mz.flow.accuracy import still_true
from mz.flow.calibration import open_set
from mz.flow.full_precision import Passes, full_precision, with_output_activations
from mz.flow.integers import Integers, quantize_network
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
from mz.flow.recipe import Plan, check_target, in_force, plan_recipe, script_settings, with_fine_scales
from mz.flow.tuning import fitted, name_of, too_few_images
from mz.script import ScriptSettings, render


def optimize(
    ref: ModelRef, options: OptimizeOptions, *, progress: Progress = no_progress, note: Note = no_note
) -> OptimizeResult:
    """Optimizes and quantizes the network that `ref` names.

    An archive is taken up at its parsed network; what it holds beyond is made anew. A recipe that cannot be honoured,
    where the options allow no fallback, ends before any work: the steps say why and the archive is as it came.
    """
    archive, config, settings = _asked(ref, options, progress, note)
    return optimize_archive(archive, config, settings, options, progress=progress, note=note)


def recipe_in_force(
    ref: ModelRef, options: OptimizeOptions, *, progress: Progress = no_progress, note: Note = no_note
) -> tuple[str, tuple[Step, ...]]:
    """What `optimize` would do, before it looks at an image: the model script with all defaults spelled out, and what
    was asked for and cannot be done.
    """
    archive, config, settings = _asked(ref, options, progress, note)
    arch = working_arch(archive, options.hw_arch)
    graph = with_output_activations(archive.graph, settings.changes)
    plan = with_fine_scales(arch, graph, plan_recipe(arch, settings, options))
    check_target(arch, graph, plan)
    count = len(data.open_calibration(config, options.calib_path, plan.calib_count))
    script = dataclasses.replace(
        in_force(archive.graph, plan, plan.recipe, count),
        compression_level=plan.compression_level,
        four_bit_ratio=settings.four_bit_ratio,
        sixteen_bit_ratio=settings.sixteen_bit_ratio,
    )
    return render(script), plan.refused


def _asked(
    ref: ModelRef, options: OptimizeOptions, progress: Progress, note: Note
) -> tuple[Archive, zoo.NetworkConfig, ScriptSettings]:
    archive = load(ref, hw_arch=options.hw_arch, note=note, progress=progress)
    config = configuration(archive, ref)
    settings = script_settings(options.script or zoo.script_path(config), archive.graph)
    for line in settings.notes:
        note(line)
    return archive, config, settings


def optimize_archive(
    archive: Archive,
    config: zoo.NetworkConfig,
    settings: ScriptSettings,
    options: OptimizeOptions,
    dataset: data.Dataset | None = None,
    *,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> OptimizeResult:
    """Likewise for an archive and settings at hand; dataset: the calibration images, whatever the options say."""
    arch = working_arch(archive, options.hw_arch)
    archive = dataclasses.replace(archive, graph=with_output_activations(archive.graph, settings.changes))
    plan = with_fine_scales(arch, archive.graph, plan_recipe(arch, settings, options))
    check_target(arch, archive.graph, plan)
    if plan.refused and not options.allow_fallback:
        return OptimizeResult(archive, plan.refused, {})

    pool = None
    if plan.tuning:
        pool = data.calibration_pool(config, options.calib_path) if dataset is None else dataset
        few = too_few_images(plan.tuning, len(pool))
        if few and not options.allow_fallback:
            return OptimizeResult(archive, tuple(few), {})
        plan = dataclasses.replace(plan, tuning=fitted(plan.tuning, len(pool)))
    if dataset is None:
        dataset = data.open_calibration(config, options.calib_path, plan.calib_count)
    note(f"calibration: {len(dataset)} images of {dataset.name}")
    feed, cached = only_input(archive.graph), config if options.cache else None
    images = open_set(dataset, tasks.load(config), feed, plan.batch_size, cached)
    passes = full_precision(archive.graph, archive.params, images, plan, config.preprocessing, progress)
    tuned_on = dataclasses.replace(passes.images, dataset=pool) if pool is not None else None
    integers = quantize_network(
        passes.graph,
        passes.params,
        passes.images,
        passes.recipe,
        plan,
        progress,
        tuned_on,
        note,
        passes.apart,
    )

    noise = integers.report["noise"]
    worst = sorted(noise["layers"].items(), key=lambda item: item[1])[:3]
    listed = ", ".join(f"{name} {db:.1f} dB" for name, db in worst)
    note(f"output SNR on calibration images {noise['output_db']:.1f} dB; noisiest layers {listed}")
    calibration = {
        "dataset": options.calib_path.name if options.calib_path else dataset.name,
        "count": len(dataset),
        "batch_size": plan.batch_size,
    }
    return _result(archive, arch.name, plan, passes, integers, calibration)


def _result(
    archive: Archive,
    arch: str,
    plan: Plan,
    passes: Passes,
    integers: Integers,
    calibration: dict[str, Any],
) -> OptimizeResult:
    steps = (*passes.steps, *integers.steps, *plan.refused)
    changed = passes.graph is not archive.graph or passes.params is not archive.params
    recipe = integers.recipe
    described = recipe.to_dict(passes.graph) | {
        "optimization_level": plan.optimization_level,
        "compression_level": plan.compression_level,
        "rounding": "second_order" if plan.refinements.rounding else "nearest",
        "bias_correction": plan.refinements.bias_correction,
        "tuning": {name_of(algorithm): dataclasses.asdict(algorithm) for algorithm in plan.tuning},
        "hw_arch": arch,
        "calibration": calibration,
        "seed": plan.seed,
    }
    report = {
        "steps": [dataclasses.asdict(step) for step in steps],
        "notes": list(plan.settings.notes),
        "passes": passes.report,
        **integers.report,
    }
    optimized = dataclasses.replace(
        archive,
        state="quantized",
        hw_arch=arch,
        fpo_graph=passes.graph if changed else None,
        fpo_params=passes.params if changed else None,
        quantization=integers.quantization,
        input_form=[dict(step) for step in passes.form],
        script=render(in_force(archive.graph, plan, recipe, calibration["count"])),
        report=still_true(archive.report) | {"optimize": report},
        history=[entry for entry in archive.history if entry["stage"] == "parse"]
        + [{"stage": "optimize", "settings": described}],
        artefacts={},
    )
    return OptimizeResult(optimized, steps, described)
