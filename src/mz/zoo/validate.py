"""From plain YAML data to typed structs, with errors that name file, key and the nearest right name.

msgspec does the checking; its messages are taken apart here and said again in the user's terms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from mz.errors import UserError
from mz.zoo.hierarchy import KeyPath, Resolved
from mz.zoo.locate import nearest

T = TypeVar("T", bound=msgspec.Struct)

_PLAIN = {
    "object": "a mapping",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}


def convert(resolved: Resolved, kind: type[T]) -> T:
    """The struct that the data stands for. Raises UserError for the first thing that does not fit."""
    try:
        return msgspec.convert(resolved.data, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        keys = _keys(where.removesuffix("`"), resolved.data, inspect.type_info(kind))
        raise UserError(_explain(message, keys, resolved, kind)) from None


def _explain(message: str, keys: KeyPath, resolved: Resolved, kind: type) -> str:
    expected = _type_at(inspect.type_info(kind), keys, resolved.data)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message):
        keys = (*keys, unknown[1])
        names = _fields(expected)
        detail = "unknown key" + (nearest(unknown[1], names) or f"; known here: {', '.join(names)}")
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        keys = (*keys, missing[1])
        detail = "this key is required"
    elif message.startswith("Invalid "):
        value = _value_at(resolved.data, keys)
        choices = _choices(expected) or _choices(_type_at(inspect.type_info(kind), keys[:-1], resolved.data))
        detail = (
            f"{value!r} is not one of {', '.join(map(str, choices))}{nearest(str(value), map(str, choices))}"
        )
    else:
        detail = re.sub(r"`(\w+)( \| null)?`", lambda match: _PLAIN.get(match[1], match[1]), message)
        detail = detail.replace("Expected", "expected", 1)
        detail += _float_hint(_value_at(resolved.data, keys), message)
    file = resolved.origin(_without_indices(keys))
    return f"{file}: {_dotted(keys)}: {detail}" if keys else f"{file}: {detail}"


def _float_hint(value: Any, message: str) -> str:
    """YAML 1.1 reads 1e-3 as text."""
    if "got `str`" in message and isinstance(value, str) and re.fullmatch(r"[+-]?\d+e[+-]?\d+", value):
        return f" ({value} must be written {value.replace('e', '.0e')} in YAML)"
    return ""


def _keys(where: str, data: Any, info: inspect.Type) -> KeyPath:
    """msgspec's `.parser.input_shapes[...][1]` as ("parser", "input_shapes", "input", "[1]").

    For a mapping with free keys msgspec does not say which key it was: the first whose value does not convert.
    """
    keys: list[str] = []
    for token in re.findall(r"\.?([^.\[\]]+)|(\[\d+\])|(\[\.\.\.\])", where):
        field, index, free = token
        if free:
            value, entry = _value_at(data, tuple(keys)), _type_at(info, (*keys, "*"), data)
            field = next((key for key, item in value.items() if not _converts(item, entry)), "...")
        keys.append(field or index)
    return tuple(keys)


def _converts(value: Any, info: inspect.Type | None) -> bool:
    if isinstance(info, inspect.VarTupleType) and isinstance(value, list):
        return all(_converts(item, info.item_type) for item in value)
    if isinstance(info, inspect.StructType):
        try:
            msgspec.convert(value, info.cls)
        except msgspec.ValidationError:
            return False
        return True
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return (
            (type(value) is int or (isinstance(info, inspect.FloatType) and type(value) is float))
            and (info.gt is None or value > info.gt)
            and (info.ge is None or value >= info.ge)
        )
    return False


def _value_at(data: Any, keys: KeyPath) -> Any:
    for key in keys:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and key.startswith("["):
            data = data[int(key[1:-1])]
    return data


def _type_at(info: inspect.Type, keys: KeyPath, data: Any) -> inspect.Type | None:
    """The type that the schema wants at a key path of the data."""
    found: inspect.Type | None = info
    for place, key in enumerate(keys):
        found = _plain(found, _value_at(data, keys[:place]))
        if isinstance(found, inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == key), None)
        elif isinstance(found, inspect.DictType):
            found = found.value_type
        elif isinstance(found, inspect.VarTupleType):
            found = found.item_type
        elif isinstance(found, inspect.TupleType):
            found = found.item_types[0]
        else:
            return None
    return _plain(found, _value_at(data, keys))


def _plain(info: inspect.Type | None, value: Any) -> inspect.Type | None:
    """Without bounds; of a union, the part that is not null, and of several structs the one that the tag names.

    A union whose tag names none of them stays as it is.
    """
    if isinstance(info, inspect.UnionType):
        parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
        structs = [part for part in parts if isinstance(part, inspect.StructType)]
        if len(structs) <= 1:
            return parts[0]
        tagged = value if isinstance(value, Mapping) else {}
        return next((part for part in structs if tagged.get(part.tag_field) == part.tag), info)
    return info.type if isinstance(info, inspect.Metadata) else info


def _fields(info: inspect.Type | None) -> list[str]:
    return [field.encode_name for field in info.fields] if isinstance(info, inspect.StructType) else []


def _choices(info: inspect.Type | None) -> list[Any]:
    if isinstance(info, inspect.LiteralType):
        return list(info.values)
    if isinstance(info, inspect.UnionType):
        return [choice for part in info.types for choice in _choices(part)]
    return [info.tag] if isinstance(info, inspect.StructType) and info.tag is not None else []


def _without_indices(keys: KeyPath) -> KeyPath:
    """The part of a key path that lies in mappings: origins do not look into lists."""
    for place, key in enumerate(keys):
        if key.startswith("["):
            return keys[:place]
    return keys


def _dotted(keys: KeyPath) -> str:
    return ".".join(keys).replace(".[", "[")
