"""The full-precision half of optimize: the passes that a recipe asks for, in their order, each with what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mz import optimize
from mz.flow import contest
from mz.flow.calibration import CalibrationSet
from mz.flow.equalize import run_equalization
from mz.flow.input_order import check_input_order
from mz.flow.input_range import pixel_ends, with_input_range
from mz.flow.options import Progress, Step
from mz.flow.own_pixels import own_normalization
from mz.flow.recipe import Plan
from mz.flow.trials import AS_ROUNDED, Apart
from mz.graph import Graph, Params, Precision
from mz.optimize import PIXELS, InputForm, device_input
from mz.quantize import Recipe, Trial, image_count
from mz.script import InputConversion, InputResize, NetworkChange, Normalization, OutputActivation
from mz.zoo import Preprocessing

_JUDGED_IMAGES = 32
_FITTED_IMAGES = 512


@dataclass
class Passes:
    """A network on its way through the passes, and what they said. images: the calibration set as it takes it now.

    recipe: for the layers that there are by now. form: what the host does to an image of the parsed network. apart: the
    network as half of the images make it, where they had a say in it.
    """

    graph: Graph
    params: Params
    images: CalibrationSet
    recipe: Recipe
    form: InputForm = ()
    steps: list[Step] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    apart: Apart | None = None

    def done(self, name: str, note: str, report: dict[str, Any] | None = None) -> None:
        self.steps.append(Step(name, True, True, note))
        if report is not None:
            self.report[name] = report


def with_output_activations(graph: Graph, changes: list[NetworkChange]) -> Graph:
    """The parsed network with the functions that a script puts behind its outputs: they are part of its function."""
    for change in changes:
        if isinstance(change, OutputActivation):
            graph = optimize.change_output_activation(graph, function=change.function, layer=change.layer)
    return graph


def full_precision(
    graph: Graph,
    params: Params,
    images: CalibrationSet,
    plan: Plan,
    preprocessing: Preprocessing,
    progress: Progress,
) -> Passes:
    """Runs the passes of `plan`. Raises UserError for one that cannot be done on this network."""
    passes = Passes(graph, params, images, plan.recipe)
    cost = _Cost(graph, params, images)
    _input_passes(passes, plan, preprocessing, cost)
    _structure_passes(passes, plan, cost)
    _pruning_passes(passes, plan, progress)
    _weight_passes(passes, plan, cost)
    outputs = [change for change in plan.settings.changes if isinstance(change, OutputActivation)]
    added = {name for change in outputs for name in optimize.added_activations(graph, change.function)}
    passes.recipe = _recipe_of(passes, set(graph.by_name) - added, plan.recipe)
    _fix_input_range(passes, preprocessing)
    _equalize(passes, plan, progress)
    if plan.fuses_prelus:
        _fuse_prelus(passes)
    return passes


class _Cost:
    """What the passes so far did to the float outputs, measured once it is asked for."""

    def __init__(self, graph: Graph, params: Params, images: CalibrationSet) -> None:
        self.network, self.images = (graph, params), images
        self.trial: Trial | None = None

    def of(self, passes: Passes) -> float:
        if self.trial is None:
            self.trial = Trial(*self.network, self.images.sample(_JUDGED_IMAGES))
        return round(self.trial.float_db(passes.graph, passes.params, passes.images.adapt), 1)


def _input_passes(passes: Passes, plan: Plan, preprocessing: Preprocessing, cost: _Cost) -> None:
    changes = [change for change in plan.settings.changes if not isinstance(change, OutputActivation)]
    if not changes:
        _take_pixels(passes, plan, preprocessing, cost)
        return
    check_input_order(changes, preprocessing)
    done = []
    for change in changes:
        options: dict[str, Any] = {"name": change.name, "source": change.input}
        if isinstance(change, Normalization):
            named = {*passes.recipe.layer_ranges, *plan.settings.weight_clipping, *plan.settings.sparsity}
            options |= {"mean": change.mean, "std": change.std, "separate": change.name in named}
            result = optimize.fold_normalization(passes.graph, passes.params, **options)
        elif isinstance(change, InputConversion):
            options["conversion"] = change.conversion
            result = optimize.convert_input(passes.graph, passes.params, **options)
        else:
            assert isinstance(change, InputResize)
            result = optimize.resize_input(passes.graph, passes.params, shape=change.shape, **options)
        passes.graph, passes.params, form = result
        passes.form = [*passes.form, *form]
        done.append(change.name)
    device = passes.graph.inputs[0]
    note = f"{', '.join(done)}: the device takes 0..255 in the shape {list(device.shape)},"
    _input_changed(passes, note, cost, optional=False)


def _take_pixels(passes: Passes, plan: Plan, preprocessing: Preprocessing, cost: _Cost) -> None:
    """Compiled files take images as before, and make pixels of them first."""
    own = own_normalization(passes.graph, passes.recipe, preprocessing)
    if own is None or plan.optimization_level < 0:
        return
    passes.graph, passes.params, _ = optimize.fold_normalization(
        passes.graph, passes.params, name="normalization", mean=own.mean, std=own.std
    )
    passes.form = [{"step": "pixels", "mean": list(own.mean), "std": list(own.std)}]
    note = "normalized by the convolutions that read it, so that integers are pixels;"
    _input_changed(passes, note, cost, optional=True)


def _input_changed(passes: Passes, note: str, cost: _Cost, optional: bool) -> None:
    passes.images = dataclasses.replace(passes.images, adapt=partial(device_input, passes.form))
    db = cost.of(passes)
    passes.steps.append(Step("input", True, True, f"{note} float output {db} dB", optional=optional))
    passes.report["input"] = {"form": list(passes.form), "float_db": db}


def _structure_passes(passes: Passes, plan: Plan, cost: _Cost) -> None:
    settings = plan.settings
    if plan.dead_channels != "disabled":
        _remove_dead_channels(passes, cost, optional=plan.dead_channels == "allowed")
    for layer, factors in settings.avgpool_reduction.items():
        passes.graph = optimize.reduce_global_avgpool(passes.graph, layer=layer, division_factors=factors)
        passes.done(
            f"average pool {layer}", f"in {factors[0]} x {factors[1]} windows, float output unchanged"
        )
    if tse := settings.tse:
        passes.graph, passes.params, report = optimize.tiled_squeeze_excite(
            passes.graph,
            passes.params,
            tile_height=tse.tile_height,
            count=tse.count,
            layers=tse.layers if tse.mode == "custom" else None,
        )
        db = cost.of(passes)
        note = (
            f"{len(report.tiled)} blocks over {report.tile_height} rows ({len(report.untouched)} have no more), line "
            f"buffers {report.buffer_before:,} -> {report.buffer_after:,} bytes, float output {db} dB"
        )
        passes.done("tiled squeeze-and-excite", note, report.to_dict() | {"float_db": db})


def _remove_dead_channels(passes: Passes, cost: _Cost, optional: bool) -> None:
    before = passes.graph.coverage().macs
    passes.graph, passes.params, lost = optimize.remove_dead_channels(passes.graph, passes.params)
    if not lost:
        note = f"there are none, or too few to leave whole blocks of {optimize.CHANNEL_BLOCK}"
        passes.steps.append(Step("dead channels", True, not optional, note, optional))
        return
    after, db = passes.graph.coverage().macs, cost.of(passes)
    note = (
        f"{sum(lost.values())} of {len(lost)} layers removed, {before:,} -> {after:,} MACs, "
        f"float output unchanged ({db:.0f} dB)"
    )
    passes.steps.append(Step("dead channels", True, True, note, optional))
    passes.report["dead channels"] = {"removed": lost, "macs": [before, after], "float_db": db}


def _pruning_passes(passes: Passes, plan: Plan, progress: Progress) -> None:
    asked = plan.settings.pruning
    if asked:
        sample = passes.images.sample(
            image_count(passes.graph, len(passes.images.dataset), _FITTED_IMAGES, value_bytes=4)
        )
        with progress("pruning", optimize.group_count(passes.graph, asked.layers), "groups") as advance:
            passes.graph, passes.params, report = optimize.prune(
                passes.graph,
                passes.params,
                sample,
                ratio=asked.ratio,
                budget=asked.budget,
                importance=asked.importance,
                layers=asked.layers,
                seed=plan.seed,
                group_done=lambda name: advance(1),
            )
        note = (
            f"{report.macs[0]:,} -> {report.macs[1]:,} MACs, {report.parameters[0]:,} -> "
            f"{report.parameters[1]:,} parameters, float output {report.fitted_db} dB"
        )
        passes.done("pruning", note, report.to_dict())
    if shares := {name: share for name, share in plan.settings.sparsity.items() if share}:
        sample = passes.images.sample(
            image_count(passes.graph, len(passes.images.dataset), _FITTED_IMAGES, value_bytes=4)
        )
        passes.params, zeros = optimize.sparsify(passes.graph, passes.params, sample, shares, seed=plan.seed)
        least, most = min(zeros.zeros.values()), max(zeros.zeros.values())
        note = f"{len(shares)} layers, {100 * least:.0f} to {100 * most:.0f} % zeros, float output {zeros.float_db} dB"
        passes.done("sparsity", note, zeros.to_dict())


def _weight_passes(passes: Passes, plan: Plan, cost: _Cost) -> None:
    bounds = {
        name: how for name, how in plan.settings.weight_clipping.items() if how[0] in ("manual", "percentile")
    }
    if bounds:
        passes.graph, passes.params, report = optimize.clip_weights(passes.graph, passes.params, bounds)
        db = cost.of(passes)
        most = 100 * max(report.shares.values())
        note = f"{len(bounds)} layers, up to {most:.2g} % of the weights, float output {db} dB"
        passes.done("weight clipping", note, report.to_dict() | {"float_db": db})


def _fix_input_range(passes: Passes, preprocessing: Preprocessing) -> None:
    ends = PIXELS if passes.form else pixel_ends(preprocessing)
    passes.recipe, step = with_input_range(
        passes.graph, passes.params, passes.recipe, ends, passes.images.sample
    )
    if step is not None:
        passes.steps.append(step)


def _equalize(passes: Passes, plan: Plan, progress: Progress) -> None:
    asked = plan.equalization
    if asked is None:
        passes.steps.append(Step("equalization", False, False, plan.equalization_note))
        return
    sample, recipe = passes.images.sample(contest.image_count(passes.graph)), passes.recipe
    refinements = plan.refinements
    if recipe.precision.above_8_bits:
        # In their own bits, where a clipped peak is all the error: channels that fill the range leave it no headroom.
        refinements = AS_ROUNDED
    elif refinements.rounding and not recipe.per_layer_weight_scale:
        # To judge by rounding to nearest would choose methods that cost more in the activations than they bring in the
        # weights; to leave the weights' noise out, those that raise channels until weights lose what activations win.
        # Biases are corrected in any case: what they take back later must not decide here.
        recipe = recipe.with_mended_weights()
        refinements = dataclasses.replace(refinements, rounding=False)
    found = run_equalization(
        passes.graph, passes.params, sample, recipe, asked, progress, refinements, plan.wide_tables
    )
    passes.graph, passes.params, passes.apart = found.graph, found.params, found.apart
    passes.report["equalization"] = found.report
    passes.steps.append(found.step)


def _fuse_prelus(passes: Passes) -> None:
    """After equalization, which knows how to scale a normalization; one whose range the script sets stays."""
    before, recipe = passes.graph, passes.recipe
    passes.graph, passes.params, fused = optimize.fuse_prelus(before, passes.params, recipe.layer_ranges)
    if not fused:
        return
    if apart := passes.apart:
        graph, params, _ = optimize.fuse_prelus(apart.graph, apart.params, recipe.layer_ranges)
        passes.apart = Apart(graph, params, apart.images)
    precisions, ranges = dict(recipe.layer_precisions), dict(recipe.layer_ranges)
    for name, into in fused.items():
        named = [recipe.precision_of(one) for one in (into, name)]
        if {name, into} & set(precisions):
            bits = max(one.activation_bits for one in named)
            precisions[into] = Precision(bits, named[0].weight_bits)
        if name in ranges:
            ranges[into] = ranges[name]
    recipe = dataclasses.replace(recipe, layer_precisions=precisions, layer_ranges=ranges)
    passes.recipe = _recipe_of(passes, before.by_name, recipe)
    gone = len(before.layers) - len(passes.graph.layers) - len(fused)
    note = f"{len(fused)} as a part of the layer before them"
    note += f", {gone} with a normalization" if gone else ""
    passes.steps.append(Step("PReLUs", True, True, note, optional=True))


def _recipe_of(passes: Passes, parsed: Collection[str], recipe: Recipe) -> Recipe:
    """The recipe for the changed graph: layers that went are forgotten, new ones are as precise as what they read."""
    present = passes.graph.by_name
    precisions = {name: value for name, value in recipe.layer_precisions.items() if name in present}
    for layer in passes.graph.layers:
        if layer.name not in parsed and layer.name not in precisions and layer.inputs:
            precisions[layer.name] = precisions.get(layer.inputs[0], recipe.precision)
    ranges = {name: value for name, value in recipe.layer_ranges.items() if name in present}
    search = {name: value for name, value in recipe.layer_weight_search.items() if name in present}
    return dataclasses.replace(
        recipe, layer_precisions=precisions, layer_ranges=ranges, layer_weight_search=search
    )
