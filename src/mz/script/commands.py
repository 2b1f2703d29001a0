"""The commands: each statement checked and folded into the settings. One function a command, listed in COMMANDS.

Every name is looked up in the network at hand and every argument in what the command carries; whatever is left over is
an error with its line, its column and the nearest right name.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from mz.errors import UserError
from mz.graph import Precision
from mz.script import published
from mz.script.grammar import Glob, Name, Statement, Value
from mz.script.settings import (
    COMPRESSION_LEVELS,
    OPTIMIZATION_LEVELS,
    WEIGHT_CLIPPING_MODES,
    ClippingRange,
    ScriptSettings,
)

NOT_CARRIED = "is not carried by this version of mz"


def apply(statements: Iterable[Statement], layer_names: Sequence[str]) -> ScriptSettings:
    """What the statements ask for, in order, on a network with these layers (scopes as in `net/conv1` are dropped).

    Raises UserError, with line and column, for a command, argument, value or layer that cannot be honoured.
    """
    settings = ScriptSettings()
    for statement in statements:
        command = COMMANDS.get(statement.name)
        if command is None:
            _refuse(statement)
        if statement.target:
            raise statement.error(
                f"{statement.name} gives nothing that could be named {', '.join(statement.target)!r}"
            )
        command(statement, layer_names, settings)
    return settings


def _refuse(statement: Statement) -> NoReturn:
    method = statement.name.rpartition(".")[2]  # a command on the target of another: `context_0.place(...)`
    if reason := published.COMMANDS.get(method):
        raise statement.error(f"{statement.name} {NOT_CARRIED}: {reason}")
    raise statement.error(
        f"unknown command {statement.name!r}{_nearest(statement.name, [*COMMANDS, *published.COMMANDS])}"
    )


def _flavor(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _arguments(statement, (), ("optimization_level", "compression_level", "batch_size"))
    if "optimization_level" in statement.kwargs:
        settings.optimization_level = _one_of(statement, "optimization_level", OPTIMIZATION_LEVELS)
    if "compression_level" in statement.kwargs:
        settings.compression_level = _one_of(statement, "compression_level", COMPRESSION_LEVELS)
    if "batch_size" in statement.kwargs:
        settings.calib_batch_size = _count(statement, "batch_size")


def _configuration(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    feature = _algorithm(statement, {"calibration": _calibration}, published.CONFIGURATIONS)
    if feature:
        feature(statement, layer_names, settings)


def _calibration(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _arguments(statement, ("calibration",), ("batch_size", "calibset_size"))
    if "batch_size" in statement.kwargs:
        settings.calib_batch_size = _count(statement, "batch_size")
    if "calibset_size" in statement.kwargs:
        settings.calib_count = _count(statement, "calibset_size")


def _quantization_param(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _arguments(statement, ("layers",), ("precision_mode",), refused=published.QUANTIZATION_PARAMETERS)
    layers = _layers(statement, statement.args[0], layer_names)
    text = _word(statement, "precision_mode")
    try:
        precision = Precision.parse(text)
    except UserError as error:
        raise statement.error(str(error)) from error
    settings.precisions.update(dict.fromkeys(layers, precision))


def _pre_quantization(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    carried = {"activation_clipping": _activation_clipping, "weights_clipping": _weights_clipping}
    algorithm = _algorithm(statement, carried, published.PRE_QUANTIZATION, settings)
    if algorithm:
        algorithm(statement, layer_names, settings)


def _post_quantization(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _algorithm(statement, {}, published.POST_QUANTIZATION, settings)


def _activation_clipping(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _arguments(
        statement,
        ("activation_clipping",),
        ("layers", "mode", "clipping_values"),
        refused=("recollect_stats",),
    )
    layers = _layers(statement, _argument(statement, "layers"), layer_names)
    mode = _word(statement, "mode")
    if mode == "disabled":
        if "clipping_values" in statement.kwargs:
            raise statement.error("clipping_values has no meaning with mode=disabled")
        clipping: ClippingRange = (
            "percentile",
            0.0,
            100.0,
        )  # exactly the smallest and the largest value seen
    elif mode in ("percentile", "manual"):
        low, high = _pair(statement, "clipping_values")
        if mode == "percentile" and not 0 <= low < high <= 100:
            raise statement.error(
                f"clipping_values=[{low:g}, {high:g}]: percentiles rise from 0 to 100, as in [0.01, 99.99]"
            )
        clipping = (mode, low, high)
    else:
        raise _unknown(
            statement, "mode", mode, ("disabled", "percentile", "manual"), known=("percentile_force",)
        )
    settings.activation_ranges.update(dict.fromkeys(layers, clipping))


def _weights_clipping(statement: Statement, layer_names: Sequence[str], settings: ScriptSettings) -> None:
    _arguments(statement, ("weights_clipping",), ("layers", "mode"), refused=("clipping_values",))
    layers = _layers(statement, _argument(statement, "layers"), layer_names)
    mode = _word(statement, "mode")
    if mode not in WEIGHT_CLIPPING_MODES:
        raise _unknown(
            statement, "mode", mode, WEIGHT_CLIPPING_MODES, known=("manual", "percentile", "mmse_if4b")
        )
    settings.weight_clipping.update(dict.fromkeys(layers, mode))


Command = Callable[[Statement, Sequence[str], ScriptSettings], None]

COMMANDS: dict[str, Command] = {
    "model_optimization_flavor": _flavor,
    "model_optimization_config": _configuration,
    "quantization_param": _quantization_param,
    "pre_quantization_optimization": _pre_quantization,
    "post_quantization_optimization": _post_quantization,
}


def _algorithm(
    statement: Statement,
    carried: Mapping[str, Command],
    known: Sequence[str],
    settings: ScriptSettings | None = None,
) -> Command | None:
    """The command of the algorithm that the first argument names; None if the script only switches it off."""
    first = statement.args[0] if statement.args else None
    if not isinstance(first, Name):
        raise statement.error(f"{statement.name} wants the name of an algorithm first")
    if first.text in carried:
        return carried[first.text]
    if first.text not in known:
        nearest = _nearest(first.text, [*carried, *known])
        raise statement.error(f"{statement.name}: unknown algorithm {first.text!r}{nearest}", first)
    policy = statement.kwargs.get("policy")
    if settings is None or policy != Name("disabled"):
        raise statement.error(f"{statement.name}({first.text}, ...) {NOT_CARRIED}", first)
    if first.text not in settings.disabled:
        settings.disabled.append(first.text)
    return None


def _arguments(
    statement: Statement, positional: Sequence[str], keywords: Sequence[str], refused: Sequence[str] = ()
) -> None:
    """Checks how many positional arguments there are and that every keyword is one of `keywords`."""
    if len(statement.args) != len(positional):
        wanted = f"{len(positional)} positional argument{'s' * (len(positional) != 1)}"
        raise statement.error(f"{statement.name} wants {wanted}, found {len(statement.args)}")
    for key in statement.kwargs:
        if key in refused:
            raise statement.error(f"{statement.name}: argument {key!r} {NOT_CARRIED}")
        if key not in keywords:
            raise statement.error(
                f"{statement.name}: unknown argument {key!r}{_nearest(key, [*keywords, *refused])}"
            )
    if not statement.kwargs:
        raise statement.error(f"{statement.name} says nothing: it wants {' or '.join(keywords)}")


def _argument(statement: Statement, key: str) -> Value:
    if key not in statement.kwargs:
        raise statement.error(f"{statement.name}: argument {key!r} is missing")
    return statement.kwargs[key]


def _word(statement: Statement, key: str) -> str:
    value = _argument(statement, key)
    if isinstance(value, Name):
        return value.text
    if isinstance(value, str):
        return value
    raise statement.error(f"{statement.name}: {key} wants a word")


def _count(statement: Statement, key: str) -> int:
    value = _argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise statement.error(f"{statement.name}: {key} wants a whole number of at least 1")
    return value


def _one_of(statement: Statement, key: str, allowed: Sequence[int]) -> int:
    value = _argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise statement.error(f"{statement.name}: {key} is one of {', '.join(map(str, allowed))}")
    return value


def _pair(statement: Statement, key: str) -> tuple[float, float]:
    value = _argument(statement, key)
    if isinstance(value, list) and len(value) == 2:
        low, high = value
        if (
            isinstance(low, (int, float))
            and isinstance(high, (int, float))
            and float(low) < float(high) < math.inf
        ):
            return float(low), float(high)
    raise statement.error(f"{statement.name}: {key} wants two rising numbers, as in [-1.5, 6.0]")


def _layers(statement: Statement, value: Value, layer_names: Sequence[str]) -> list[str]:
    """The layers that a name, a glob or a list of both selects, in the network's order."""
    selected: set[str] = set()
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, (Name, Glob)):
            raise statement.error(
                f"{statement.name}: layers are names as conv1, globs as {{conv*}} or a list of them"
            )
        pattern = item.text if isinstance(item, Name) else item.pattern
        local = pattern.rpartition("/")[2]
        if isinstance(item, Name):
            found = {name for name in layer_names if name in (pattern, local)}
        else:
            found = {
                name for name in layer_names if any(fnmatch.fnmatchcase(name, p) for p in (pattern, local))
            }
        if not found:
            what = "layer" if isinstance(item, Name) else "glob"
            raise statement.error(f"{what} {pattern!r} matches no layer{_nearest(local, layer_names)}", item)
        selected |= found
    if not selected:
        raise statement.error(f"{statement.name}: the list of layers is empty")
    return [name for name in layer_names if name in selected]


def _unknown(
    statement: Statement, key: str, value: str, allowed: Sequence[str], known: Sequence[str]
) -> UserError:
    if value in known:
        return statement.error(
            f"{statement.name}: {key}={value} {NOT_CARRIED}: it carries {', '.join(allowed)}"
        )
    return statement.error(f"{statement.name}: {key} is one of {', '.join(allowed)}, not {value!r}")


def _nearest(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.5)
    return f"; the nearest is {close[0]!r}" if close else ""
