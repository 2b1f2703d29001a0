"""Commands that alter the network before anything else: what its input holds, and what follows its outputs.

They bring layers of their own, under the name left of `=`, which later statements may speak of.
"""

from __future__ import annotations

from mz.script.grammar import Name, Statement
from mz.script.published import FOREIGN_LAYERS
from mz.script.settings import (
    CONVERSIONS,
    InputConversion,
    InputResize,
    Normalization,
    OutputActivation,
    ScriptSettings,
)
from mz.script.values import NOT_CARRIED, arguments, as_word, layers, nearest, numbers, whole_pair

OUTPUT_ACTIVATIONS = ("sigmoid", "softmax", "relu", "tanh", "hard_sigmoid", "silu", "leaky_relu", "linear")


def normalization(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    """`normalization1 = normalization([mean, ..], [std, ..] [, input_layer1])`."""
    arguments(statement, ("mean", "std", "input")[: max(2, len(statement.args))], (), may_be_empty=True)
    mean, std = (
        numbers(statement, value, what) for value, what in zip(statement.args, ("mean", "std"), strict=False)
    )
    if len(mean) != len(std) or min(std) <= 0:
        raise statement.error("normalization wants a mean and a positive std for every channel")
    source = _input(statement, 2, layer_names)
    settings.changes.append(
        Normalization(_target(statement, layer_names, "normalization"), mean, std, source)
    )


def input_conversion(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    """`conversion1 = input_conversion([input_layer1,] nv12_to_rgb [, emulator_support=True])`."""
    keywords = ("emulator_support",)
    arguments(statement, ("input", "conversion")[-max(1, len(statement.args)) :], keywords, may_be_empty=True)
    asked = as_word(statement, statement.args[-1], "the conversion")
    conversion = asked.replace("tf_rgbx_to", "rgbx_to").replace("hailo_", "")
    if conversion not in CONVERSIONS:
        raise statement.error(
            f"input_conversion: {asked!r} {NOT_CARRIED}: it carries {', '.join(CONVERSIONS)}"
            f"{nearest(conversion, CONVERSIONS)}"
        )
    source = _input(statement, 0, layer_names) if len(statement.args) == 2 else None
    name = _target(statement, layer_names, "input_conversion")
    settings.changes.append(InputConversion(name, conversion, source))


def input_resize(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    """`resize_input1 = resize([input_layer1,] resize_shapes=[height, width])`."""
    arguments(statement, ("input",)[: len(statement.args)], ("resize_shapes",))
    source = _input(statement, 0, layer_names)
    name = _target(statement, layer_names, "resize_input")
    settings.changes.append(InputResize(name, whole_pair(statement, "resize_shapes"), source))


def output_activation(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    """`change_output_activation([layer,] sigmoid)`."""
    arguments(statement, ("layer", "function")[-max(1, len(statement.args)) :], (), may_be_empty=True)
    function = as_word(statement, statement.args[-1], "the activation")
    if function not in OUTPUT_ACTIVATIONS:
        raise statement.error(
            f"change_output_activation: {function!r} {NOT_CARRIED}: it carries {', '.join(OUTPUT_ACTIVATIONS)}"
        )
    layer = None
    if len(statement.args) == 2:
        (layer,) = layers(statement, statement.args[0], layer_names)
    settings.changes.append(OutputActivation(function, layer))


def remove_node(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    """`remove_node(nms)`: of layers that only the published flow adds, there is nothing to remove."""
    arguments(statement, ("layer",), (), may_be_empty=True)
    name = as_word(statement, statement.args[0], "the node")
    local = name.rpartition("/")[2]
    reasons = [reason for part, reason in FOREIGN_LAYERS.items() if part in local]
    if local in layer_names or not reasons:
        raise statement.error(
            f"remove_node {NOT_CARRIED}: cut the ONNX file with --start-node-names and --end-node-names"
        )
    settings.notes.append(f"{statement.place}: remove_node({name}): {reasons[0]}")


def _input(statement: Statement, place: int, layer_names: list[str]) -> str | None:
    if place >= len(statement.args):
        return None
    value = statement.args[place]
    if not isinstance(value, Name):
        raise statement.error(f"{statement.name}: the input is a layer's name, as input_layer1")
    (name,) = layers(statement, value, layer_names)
    return name


def _target(statement: Statement, layer_names: list[str], default: str) -> str:
    """The name that the new layer gets: the last one left of `=`, its scope dropped, or `default` with a number."""
    if statement.target:
        name = statement.target[-1].rpartition("/")[2]
        if name in layer_names:
            raise statement.error(f"{statement.name}: the network has a layer named {name!r} already")
    else:
        number = 1
        while f"{default}{number}" in layer_names:
            number += 1
        name = f"{default}{number}"
    layer_names.append(name)
    return name
