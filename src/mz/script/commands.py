"""The commands: each statement checked and folded into the settings. One function a command, listed in COMMANDS.

Every name is looked up in the network at hand and every argument in what the command carries; whatever is left over is
an error with its line, its column and the nearest right name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from mz.errors import UserError
from mz.graph import Precision
from mz.script import algorithms, changes, published
from mz.script.grammar import Name, Statement, Value
from mz.script.settings import COMPRESSION_LEVELS, OPTIMIZATION_LEVELS, ScriptSettings
from mz.script.values import (
    NOT_CARRIED,
    arguments,
    count,
    layers,
    nearest,
    one_of,
    pair,
    share,
    unknown,
    whole,
    word,
)

Command = Callable[[Statement, list[str], ScriptSettings], None]


def apply(statements: Iterable[Statement], layer_names: Sequence[str]) -> ScriptSettings:
    """What the statements ask for, in order, on a network with these layers (scopes as in `net/conv1` are dropped).

    Raises UserError, with line and column, for a command, argument, value or layer that cannot be honoured.
    """
    settings = ScriptSettings()
    names = list(layer_names)
    for statement in statements:
        method = statement.name.rpartition(".")[
            2
        ]  # a command on the target of another: `context_0.place(...)`
        if reason := published.NOTED.get(method):
            settings.notes.append(f"{statement.place}: {statement.name}: {reason}")
            continue
        command = COMMANDS.get(statement.name)
        if command is None:
            if reason := published.REFUSED.get(method):
                raise statement.error(f"{statement.name} {NOT_CARRIED}: {reason}")
            known = [*COMMANDS, *published.NOTED, *published.REFUSED]
            raise unknown(statement, statement.name, known)
        if statement.target and command not in NAMED:
            raise statement.error(
                f"{statement.name} gives nothing that could be named {', '.join(statement.target)!r}"
            )
        command(statement, names, settings)
    _in_network_order(settings, names)
    return settings


def _in_network_order(settings: ScriptSettings, names: list[str]) -> None:
    """So that scripts which ask for the same in another order make the same archive."""
    for field in ("sparsity", "avgpool_reduction", "precisions", "activation_ranges", "weight_clipping"):
        found = getattr(settings, field)
        setattr(settings, field, {name: found[name] for name in names if name in found})


def _flavor(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, (), ("optimization_level", "compression_level", "batch_size"))
    if "optimization_level" in statement.kwargs:
        settings.optimization_level = one_of(statement, "optimization_level", OPTIMIZATION_LEVELS)
    if "compression_level" in statement.kwargs:
        settings.compression_level = one_of(statement, "compression_level", COMPRESSION_LEVELS)
    if "batch_size" in statement.kwargs:
        settings.calib_batch_size = count(statement, "batch_size")


def _configuration(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    _algorithm(statement, layer_names, settings, CONFIGURATIONS, published.NOTED_CONFIGURATIONS, {})


def _calibration(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("calibration",), ("batch_size", "calibset_size"), may_be_empty=True)
    if "batch_size" in statement.kwargs:
        settings.calib_batch_size = count(statement, "batch_size")
    if "calibset_size" in statement.kwargs:
        settings.calib_count = count(statement, "calibset_size")


def _compression(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    keywords = ("auto_4bit_weights_ratio", "auto_16bit_weights_ratio")
    arguments(statement, ("compression_params",), keywords)
    if "auto_4bit_weights_ratio" in statement.kwargs:
        settings.four_bit_ratio = share(statement, "auto_4bit_weights_ratio")
    if "auto_16bit_weights_ratio" in statement.kwargs:
        settings.sixteen_bit_ratio = share(statement, "auto_16bit_weights_ratio")


QUANTIZATION_ARGUMENTS = ("precision_mode", "force_range_out", "force_range_in", "force_range_index")


def _quantization_param(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    for key in statement.kwargs:
        if reason := published.REFUSED_QUANTIZATION.get(key):
            raise statement.error(f"{statement.name}: argument {key!r} {NOT_CARRIED}: {reason}")
    arguments(statement, ("layers",), (*QUANTIZATION_ARGUMENTS, *published.NOTED_QUANTIZATION))
    if _are_output_layers(statement.args[0]):
        settings.notes.append(f"{statement.place}: {published.OUTPUT_LAYER}: {published.NOTED_OUTPUT_LAYER}")
        return
    selected = layers(statement, statement.args[0], layer_names)
    for key, reason in published.NOTED_QUANTIZATION.items():
        if key in statement.kwargs:
            settings.notes.append(f"{statement.place}: {key}: {reason}")
    if "precision_mode" in statement.kwargs:
        settings.precisions.update(dict.fromkeys(selected, _precision(statement)))
    if "force_range_out" in statement.kwargs:
        low, high = pair(statement, "force_range_out")
        settings.activation_ranges.update(dict.fromkeys(selected, ("manual", low, high)))
    if "force_range_in" in statement.kwargs:
        low, high = pair(statement, "force_range_in")
        place = whole(statement, "force_range_index") if "force_range_index" in statement.kwargs else 0
        settings.input_ranges.update({(name, place): (low, high) for name in selected})


def _are_output_layers(selection: Value) -> bool:
    """Whether the names and globs are all of places where the published flow lets tensors out."""
    items = selection if isinstance(selection, list) else [selection]
    texts = [item.text if isinstance(item, Name) else getattr(item, "pattern", "") for item in items]
    return bool(texts) and all(text.rpartition("/")[2].startswith(published.OUTPUT_LAYER) for text in texts)


def _precision(statement: Statement) -> Precision:
    """`a8_w4`, or `a8_w4_a16` with the bits of the output last: those count, an input has the bits of its maker."""
    text = word(statement, "precision_mode")
    if match := re.fullmatch(r"a\d+_w(\d+)_a(\d+)", text):
        text = f"a{match[2]}_w{match[1]}"
    try:
        return Precision.parse(text)
    except UserError as error:
        raise statement.error(str(error)) from error


def _pre_quantization(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    _algorithm(
        statement,
        layer_names,
        settings,
        PRE_QUANTIZATION,
        published.NOTED_ALGORITHMS,
        published.REFUSED_ALGORITHMS,
    )


def _post_quantization(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    _algorithm(statement, layer_names, settings, POST_QUANTIZATION, {}, published.REFUSED_ALGORITHMS)


CONFIGURATIONS: dict[str, Command] = {"calibration": _calibration, "compression_params": _compression}

PRE_QUANTIZATION: dict[str, Command] = {
    "activation_clipping": algorithms.activation_clipping,
    "weights_clipping": algorithms.weights_clipping,
    "equalization": algorithms.equalization,
    "se_optimization": algorithms.se_optimization,
    "pruning": algorithms.pruning,
    "sparsity": algorithms.sparsity,
    "dead_channels_removal": algorithms.dead_channels,
    "zero_static_channels": algorithms.dead_channels,
    "global_avgpool_reduction": algorithms.avgpool_reduction,
}

POST_QUANTIZATION: dict[str, Command] = {
    "bias_correction": algorithms.bias_correction,
    "finetune": algorithms.finetune,
    "adaround": algorithms.adaround,
}

COMMANDS: dict[str, Command] = {
    "model_optimization_flavor": _flavor,
    "model_optimization_config": _configuration,
    "quantization_param": _quantization_param,
    "pre_quantization_optimization": _pre_quantization,
    "post_quantization_optimization": _post_quantization,
    "normalization": changes.normalization,
    "input_conversion": changes.input_conversion,
    "resize": changes.input_resize,
    "change_output_activation": changes.output_activation,
    "remove_node": changes.remove_node,
}

NAMED = (changes.normalization, changes.input_conversion, changes.input_resize)
"""Those that bring a layer, which a target names."""


def _algorithm(
    statement: Statement,
    layer_names: list[str],
    settings: ScriptSettings,
    carried: Mapping[str, Command],
    noted: Mapping[str, str],
    refused: Mapping[str, str],
) -> None:
    """Runs, notes or refuses the algorithm that the first argument names."""
    first = statement.args[0] if statement.args else None
    if not isinstance(first, Name):
        raise statement.error(f"{statement.name} wants the name of an algorithm first")
    name = first.text
    if name in carried:
        carried[name](statement, layer_names, settings)
    elif name in noted:
        settings.notes.append(f"{statement.place}: {name}: {noted[name]}")
    elif name not in refused:
        raise statement.error(
            f"{statement.name}: unknown algorithm {name!r}{nearest(name, [*carried, *noted, *refused])}",
            first,
        )
    elif statement.kwargs.get("policy") == Name("disabled"):
        if name not in settings.disabled:
            settings.disabled.append(name)
    else:
        raise statement.error(f"{statement.name}({name}, ...) {NOT_CARRIED}: {refused[name]}", first)
