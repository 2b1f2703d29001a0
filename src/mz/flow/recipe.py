"""The recipe in force, decided before any image is read: options win over the model script, that over defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mz import script, zoo
from mz.errors import UserError
from mz.flow.equalize import AUTO, DISABLED
from mz.flow.options import OptimizeOptions, Step
from mz.graph import Graph, Precision
from mz.quantize import ActivationRange, Recipe, Refinements
from mz.script import ScriptSettings

DEFAULT_LEVEL = 1
HIGHEST_LEVEL = 1
WEIGHT_SEARCH_BY_MODE = {"mmse": True, "disabled": False}


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first image is read. `steps` tells what was asked for and will not be done."""

    recipe: Recipe
    refinements: Refinements
    optimization_level: int
    compression_level: int
    calib_count: int | None
    batch_size: int
    seed: int
    refused: tuple[Step, ...]
    equalization: str = AUTO
    equalization_note: str = ""


def script_settings(path: Path | None, graph: Graph) -> ScriptSettings:
    """What the model script at `path` asks for; nothing without one. Raises UserError naming file and line."""
    if path is None:
        return ScriptSettings()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return script.apply(script.parse_script(text, str(path)), [layer.name for layer in graph.layers])


def plan_recipe(graph: Graph, arch: zoo.HwArch, settings: ScriptSettings, options: OptimizeOptions) -> Plan:
    """Options win over the script, the script over mz's defaults.

    Raises UserError for a level or precision that cannot be had.
    """
    level = _first(options.optimization_level, settings.optimization_level, DEFAULT_LEVEL)
    refused: list[Step] = []
    if level > HIGHEST_LEVEL:
        why = f"level {level} needs fine-tuning, which this version does not carry"
        refused.append(Step("fine-tuning", True, False, f"{why}; level {HIGHEST_LEVEL} is the highest"))
        level = HIGHEST_LEVEL
    plain = level < 0
    precision = Precision.parse(options.precision or arch.default_precision)
    recipe = Recipe(
        precision=precision,
        layer_precisions=dict(settings.precisions),
        activation_range=ActivationRange("min_max" if plain else "auto"),
        layer_ranges={
            name: ActivationRange(how, (low, high))
            for name, (how, low, high) in settings.activation_ranges.items()
        },
        weight_search=not plain,
        layer_weight_search={
            name: WEIGHT_SEARCH_BY_MODE[mode] for name, mode in settings.weight_clipping.items()
        },
        per_layer_weight_scale=arch.weight_scale == "per_layer",
    )
    compression = _first(options.compression_level, settings.compression_level, 0)
    _check_precisions(graph, arch, recipe, compression)
    equalization, why = AUTO, ""
    if plain:
        equalization, why = DISABLED, "begins at optimization level 0"
    elif "equalization" in settings.disabled:
        equalization, why = DISABLED, "disabled by the model script"
    elif min(precision.activation_bits, precision.weight_bits) > 8:
        equalization, why = DISABLED, "16 bits need none"
    return Plan(
        recipe=recipe,
        refinements=Refinements(level >= 1, level >= 1 and "bias_correction" not in settings.disabled),
        optimization_level=level,
        compression_level=compression,
        calib_count=settings.calib_count if options.calib_count is None else options.calib_count,
        batch_size=_first(options.batch_size, settings.calib_batch_size, 32),
        seed=options.seed,
        refused=tuple(refused),
        equalization=equalization,
        equalization_note=why,
    )


def in_force(
    graph: Graph, settings: ScriptSettings, plan: Plan, recipe: Recipe, count: int
) -> ScriptSettings:
    """The script that, given alone, asks for exactly what was done: every layer's precision spelled out."""
    inside = [layer.name for layer in graph.layers if not layer.host]
    return dataclasses.replace(
        settings,
        optimization_level=plan.optimization_level,
        compression_level=0,
        calib_batch_size=plan.batch_size,
        calib_count=count,
        precisions={name: recipe.precision_of(name) for name in inside},
    )


def _check_precisions(graph: Graph, arch: zoo.HwArch, recipe: Recipe, compression: int) -> None:
    wanted = {"the default": recipe.precision} | dict(recipe.layer_precisions)
    if compression:
        wanted["compression"] = Precision(recipe.precision.activation_bits, 4)
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
