"""The recipe in force, decided before any image is read: options win over the model script, that over defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mz import script, zoo
from mz.compiler.hw_arch import check_precisions, takes
from mz.compiler.limits import check_room, has_room
from mz.errors import UserError
from mz.flow.options import OptimizeOptions, Step
from mz.flow.tuning import Algorithm, as_tuning, plan_tuning, without_torch
from mz.graph import Graph, Precision
from mz.optimize import added_activations
from mz.quantize import (
    SHARES,
    ActivationRange,
    Recipe,
    Refinements,
    normalization_scales,
    residual_streams,
    softmax_scales,
)
from mz.script import OPTIMIZATION_LEVELS, Equalization, OutputActivation, ScriptSettings

DEFAULT_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first image is read.

    refused: what was asked for and will not be done. wide_tables: the target has room for tables by channel over 16
    bits, whatever their number.
    """

    settings: ScriptSettings
    recipe: Recipe
    refinements: Refinements
    optimization_level: int
    compression_level: int
    calib_count: int | None
    batch_size: int
    seed: int
    refused: tuple[Step, ...]
    tuning: tuple[Algorithm, ...]
    four_bit_share: float
    sixteen_bit_share: float
    equalization: Equalization | None
    equalization_note: str = ""
    dead_channels: str = "disabled"
    fuses_prelus: bool = False
    wide_tables: bool = False


def script_settings(path: Path | None, graph: Graph) -> ScriptSettings:
    """What the model script at `path` asks for; nothing without one. Raises UserError naming file and line."""
    if path is None:
        return ScriptSettings()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    settings = script.apply(script.parse_script(text, str(path)), [layer.name for layer in graph.layers])
    _resolve_inputs(settings, graph, path)
    return settings


def _resolve_inputs(settings: ScriptSettings, graph: Graph, path: Path) -> None:
    """The range of what a layer reads is that of the layer which makes it."""
    for (name, place), (low, high) in settings.input_ranges.items():
        inputs = graph[name].inputs
        if place >= len(inputs):
            raise UserError(f"{path}: force_range_index={place}: layer {name} has {len(inputs)} inputs")
        settings.activation_ranges[inputs[place]] = ("manual", low, high)
    settings.input_ranges.clear()


def plan_recipe(arch: zoo.HwArch, settings: ScriptSettings, options: OptimizeOptions) -> Plan:
    """Options win over the script, the script over mz's defaults.

    Raises UserError for a level or precision that cannot be had.
    """
    level = _first(options.optimization_level, settings.optimization_level, DEFAULT_LEVEL)
    if level > max(OPTIMIZATION_LEVELS):
        raise UserError(f"there is no optimization level {level}: 0 to {max(OPTIMIZATION_LEVELS)}, or -100")
    tuning = plan_tuning(level, settings)
    refused = without_torch(tuning)
    if refused:
        level, tuning = min(level, 1), ()
    plain = level < 0
    precision = Precision.parse(options.precision or arch.default_precision)
    recipe = Recipe(
        precision=precision,
        layer_precisions=dict(settings.precisions),
        activation_range=ActivationRange("min_max" if plain else "auto"),
        layer_ranges={
            name: ActivationRange("mse" if how == "mmse" else how, (low, high))
            for name, (how, low, high) in settings.activation_ranges.items()
        },
        weight_search=not plain,
        layer_weight_search=_weight_search(settings, precision),
        per_layer_weight_scale=arch.weight_scale == "per_layer",
    )
    compression = _first(options.compression_level, settings.compression_level, 0)
    automatic = [4] * bool(compression or settings.four_bit_ratio) + [16] * bool(settings.sixteen_bit_ratio)
    _check_precisions(arch, recipe, automatic)
    equalization: Equalization | None = settings.equalization or Equalization()
    why = ""
    if "equalization" in settings.disabled:
        equalization, why = None, "disabled by the model script"
    elif settings.equalization is None and plain:
        equalization, why = None, "begins at optimization level 0"
    return Plan(
        settings=settings,
        recipe=recipe,
        refinements=Refinements(
            level >= 1, level >= 1 if settings.bias_correction is None else settings.bias_correction
        ),
        optimization_level=level,
        compression_level=compression,
        calib_count=settings.calib_count if options.calib_count is None else options.calib_count,
        batch_size=_first(options.batch_size, settings.calib_batch_size, 32),
        seed=options.seed,
        refused=tuple(refused),
        tuning=tuning,
        four_bit_share=SHARES[compression] if settings.four_bit_ratio is None else settings.four_bit_ratio,
        sixteen_bit_share=settings.sixteen_bit_ratio or 0.0,
        equalization=equalization,
        equalization_note=why,
        dead_channels=settings.dead_channels or ("disabled" if plain else "allowed"),
        fuses_prelus=arch.prelu == "fused" and not plain,
        wide_tables=arch.memory.flash_bytes is None,
    )


def with_fine_scales(arch: zoo.HwArch, graph: Graph, plan: Plan) -> Plan:
    """The plan with 16 bits for variances of normalizations, what divides by them, what softmaxes read, and residual
    streams, where the target takes that and has room, and the script does not name them.
    """
    for names in (normalization_scales(graph), softmax_scales(graph), residual_streams(graph)):
        recipe = plan.recipe
        fine = Precision(16, recipe.precision.weight_bits)
        precisions = dict.fromkeys(names, fine) | dict(recipe.layer_precisions)
        changed = dataclasses.replace(recipe, layer_precisions=precisions)
        wanted = _of_layers(graph, changed)
        if takes(arch, graph, wanted) and has_room(arch, graph, wanted):
            plan = dataclasses.replace(plan, recipe=changed)
    return plan


def _of_layers(graph: Graph, recipe: Recipe) -> dict[str, Precision]:
    return {layer.name: recipe.precision_of(layer.name) for layer in graph.layers if not layer.host}


def check_target(arch: zoo.HwArch, graph: Graph, plan: Plan) -> None:
    """Raises UserError, naming layers, for what the target does not take of the network as the plan quantizes it, and
    where it cannot have room for it.
    """
    wanted = _of_layers(graph, plan.recipe)
    check_precisions(arch, graph, wanted)
    if plan.four_bit_share:
        named = plan.recipe.layer_precisions
        wanted |= {
            name: Precision(was.activation_bits, 4) for name, was in wanted.items() if name not in named
        }
        check_precisions(arch, graph, wanted)
    if not plan.settings.changes:  # they may make the network smaller
        check_room(arch, graph, wanted)


def in_force(parsed: Graph, plan: Plan, recipe: Recipe, count: int) -> ScriptSettings:
    """The script that, given alone, asks for exactly what was done: every layer's precision spelled out."""
    settings = plan.settings
    names = [layer.name for layer in parsed.layers if not layer.host]
    for change in settings.changes:  # a layer that the script itself adds at an output cannot be named in it
        if isinstance(change, OutputActivation):
            added = added_activations(parsed, change.function)
            names = [name for name in names if name not in added]
        else:
            names.append(change.name)
    disabled = [name for name in settings.disabled if name != "equalization"]
    return dataclasses.replace(
        settings,
        optimization_level=plan.optimization_level,
        compression_level=0,
        four_bit_ratio=None,
        sixteen_bit_ratio=None,
        calib_batch_size=plan.batch_size,
        calib_count=count,
        equalization=plan.equalization,
        disabled=disabled + ["equalization"] * (plan.equalization is None),
        bias_correction=plan.refinements.bias_correction,
        dead_channels=plan.dead_channels,
        precisions={name: recipe.precision_of(name) for name in names},
        tuning=[as_tuning(algorithm) for algorithm in plan.tuning],
    )


def _weight_search(settings: ScriptSettings, common: Precision) -> dict[str, bool]:
    """Manual and percentile clipping are passes in floating point; the scale is then the largest weight's."""
    found = {}
    for name, (mode, _, _) in settings.weight_clipping.items():
        bits = settings.precisions.get(name, common).weight_bits
        found[name] = mode == "mmse" or (mode == "mmse_if4b" and bits == 4)
    return found


def _check_precisions(arch: zoo.HwArch, recipe: Recipe, automatic: list[int]) -> None:
    """automatic: bits of weights that measurements will give to some layers."""
    wanted = {"the default": recipe.precision} | dict(recipe.layer_precisions)
    for bits in automatic:
        wanted[f"{bits}-bit weights"] = Precision(recipe.precision.activation_bits, bits)
    for name, precision in wanted.items():
        if (
            precision.activation_bits not in arch.activation_bits
            or precision.weight_bits not in arch.weight_bits
        ):
            raise UserError(
                f"{name}: hw_arch {arch.name} takes no {precision}; it has activations of "
                f"{_either(arch.activation_bits)} and weights of {_either(arch.weight_bits)} bits"
            )


def _either(bits: tuple[int, ...]) -> str:
    return "/".join(map(str, sorted(bits)))


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
