"""C text: identifiers, numbers, arrays and structs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping

import numpy as np

_ROW_BYTES = 32
_TYPES = {
    "uint8": "uint8_t",
    "int8": "int8_t",
    "uint16": "uint16_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float32": "float",
}
_OCTAL = [f"\\{byte:03o}" for byte in range(256)]


def c_name(text: str) -> str:
    """`text` as a part of a C identifier that something follows."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text)
    return name if name[:1].isalpha() else f"n{name}"


def unique_c_names(names: Iterable[str]) -> dict[str, str]:
    """A C name of its own for each."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = chosen = c_name(name)
        number = 2
        while chosen in taken:
            chosen, number = f"{plain}_{number}", number + 1
        taken.add(chosen)
        found[name] = chosen
    return found


def floating(value: float | np.floating) -> str:
    """A float32 as a C constant that has its very bits."""
    return f"{float(np.float32(value)).hex()}f"


def array(name: str, values: np.ndarray) -> str:
    """The definition of a constant array.

    Bytes are written as one string, which compilers read ten times faster than numbers; its closing zero is part of the
    array. dtypes: those of stdint.h up to 64 bits, and float32.
    """
    kind, flat = _TYPES[values.dtype.name], values.ravel()
    if values.dtype.itemsize == 1:
        data = flat.tobytes()
        rows = [data[start : start + _ROW_BYTES] for start in range(0, len(data), _ROW_BYTES)]
        text = "\n".join('    "' + "".join(map(_OCTAL.__getitem__, row)) + '"' for row in rows)
        return f"const {kind} {name}[{len(data) + 1}] =\n{text};\n"
    numbers = [floating(v) for v in flat] if values.dtype.kind == "f" else _integers(flat)
    rows_of_text = [", ".join(numbers[start : start + 16]) for start in range(0, len(numbers), 16)]
    return f"const {kind} {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(rows_of_text) + ",\n};\n"


def declaration(name: str, values: np.ndarray) -> str:
    """What `array` defines, as another file sees it."""
    size = values.size + (values.dtype.itemsize == 1)
    return f"extern const {_TYPES[values.dtype.name]} {name}[{size}];\n"


def _integers(values: np.ndarray) -> list[str]:
    if values.dtype.itemsize == 8:
        return [f"INT64_C({value})" for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def struct(kind: str, name: str, fields: Mapping[str, object]) -> str:
    """The definition of a constant struct; a field of several values becomes a list in braces."""
    text = f"static const {kind} {name} = {_braces(fields)};"
    lines = textwrap.wrap(text, 118, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _braces(fields: Mapping[str, object]) -> str:
    return "{" + ", ".join(f".{key} = {_value(value)}" for key, value in fields.items()) + "}"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return _braces(value)
    if isinstance(value, list | tuple):
        return "{" + ", ".join(_value(item) for item in value) + "}"
    if isinstance(value, float | np.floating):
        return floating(value)
    return str(int(value)) if isinstance(value, bool | np.integer) else str(value)
