"""Arguments of a statement, checked and turned into plain values; every fault is named with its line and column."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterable, Sequence

from mz.errors import UserError
from mz.script.grammar import Glob, Name, Statement, Value

NOT_CARRIED = "is not carried by this version of mz"


def arguments(
    statement: Statement,
    positional: Sequence[str],
    keywords: Sequence[str],
    refused: Sequence[str] = (),
    *,
    may_be_empty: bool = False,
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
                f"{statement.name}: unknown argument {key!r}{nearest(key, [*keywords, *refused])}"
            )
    if not statement.kwargs and not may_be_empty:
        raise statement.error(f"{statement.name} says nothing: it wants {' or '.join(keywords)}")


def argument(statement: Statement, key: str) -> Value:
    if key not in statement.kwargs:
        raise statement.error(f"{statement.name}: argument {key!r} is missing")
    return statement.kwargs[key]


def word(statement: Statement, key: str) -> str:
    return as_word(statement, argument(statement, key), key)


def as_word(statement: Statement, value: Value, what: str) -> str:
    if isinstance(value, Name):
        return value.text
    if isinstance(value, str):
        return value
    raise statement.error(f"{statement.name}: {what} wants a word")


def choice(statement: Statement, key: str, allowed: Sequence[str], known: Sequence[str] = ()) -> str:
    """A word out of `allowed`; one of `known` is refused as not carried."""
    value = word(statement, key)
    if value in allowed:
        return value
    if value in known:
        raise statement.error(
            f"{statement.name}: {key}={value} {NOT_CARRIED}: it carries {', '.join(allowed)}"
        )
    raise statement.error(f"{statement.name}: {key} is one of {', '.join(allowed)}, not {value!r}")


def count(statement: Statement, key: str) -> int:
    value = argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise statement.error(f"{statement.name}: {key} wants a whole number of at least 1")
    return value


def whole(statement: Statement, key: str) -> int:
    value = argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise statement.error(f"{statement.name}: {key} wants a whole number of at least 0")
    return value


def one_of(statement: Statement, key: str, allowed: Sequence[int]) -> int:
    value = argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise statement.error(f"{statement.name}: {key} is one of {', '.join(map(str, allowed))}")
    return value


def share(statement: Statement, key: str) -> float:
    value = argument(statement, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise statement.error(f"{statement.name}: {key} wants a share from 0 to 1")
    return float(value)


def numbers(statement: Statement, value: Value, what: str) -> tuple[float, ...]:
    items = value if isinstance(value, list) else [value]
    found = [float(v) for v in items if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(found) != len(items) or not found or not all(map(math.isfinite, found)):
        raise statement.error(f"{statement.name}: {what} wants numbers, as in [0.5, 1.5]")
    return tuple(found)


def pair(statement: Statement, key: str) -> tuple[float, float]:
    value = argument(statement, key)
    if isinstance(value, list) and len(value) == 2:
        low, high = value
        if (
            isinstance(low, (int, float))
            and isinstance(high, (int, float))
            and float(low) < float(high) < math.inf
        ):
            return float(low), float(high)
    raise statement.error(f"{statement.name}: {key} wants two rising numbers, as in [-1.5, 6.0]")


def whole_pair(statement: Statement, key: str) -> tuple[int, int]:
    value = argument(statement, key)
    if isinstance(value, list) and len(value) == 2:
        first, second = value
        if isinstance(first, int) and isinstance(second, int) and min(first, second) >= 1:
            return first, second
    raise statement.error(f"{statement.name}: {key} wants two whole numbers of at least 1, as in [7, 7]")


def layers(statement: Statement, value: Value, layer_names: Sequence[str]) -> list[str]:
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
            raise statement.error(f"{what} {pattern!r} matches no layer{nearest(local, layer_names)}", item)
        selected |= found
    if not selected:
        raise statement.error(f"{statement.name}: the list of layers is empty")
    return [name for name in layer_names if name in selected]


def optional_layers(statement: Statement, layer_names: Sequence[str]) -> tuple[str, ...] | None:
    if "layers" not in statement.kwargs:
        return None
    return tuple(layers(statement, statement.kwargs["layers"], layer_names))


def unknown(statement: Statement, name: str, known: Iterable[str]) -> UserError:
    return statement.error(f"unknown command {name!r}{nearest(name, known)}")


def nearest(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.5)
    return f"; the nearest is {close[0]!r}" if close else ""
