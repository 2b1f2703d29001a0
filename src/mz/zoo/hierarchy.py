"""YAML files and their inheritance: a file names its `base:` files, and what it says itself wins over them.

Every key remembers the file it came from, so that an error can name the file that has to be mended. Only yaml and
`mz.errors` are needed here; what the keys mean is the business of `mz.zoo.schema`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mz.errors import UserError
from mz.zoo.locate import config_root, shown

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A file merged with its bases.

    data: the merged mapping, without `base`.
    origins: for every key path, the file (as messages show it) whose value is in force.
    """

    data: dict[str, Any]
    origins: dict[KeyPath, str]

    def origin(self, path: KeyPath) -> str:
        """The file that set `path`, or else its nearest enclosing key."""
        for length in range(len(path), -1, -1):
            if found := self.origins.get(path[:length]):
                return found
        raise KeyError(path)


def resolve(path: Path) -> Resolved:
    """Read a file and everything that it inherits from.

    Mappings merge key by key, any other value (lists too) replaces the inherited one; later bases win over earlier
    ones. A base is looked for beside the file that names it, then in `cfg/`.
    Raises UserError for a missing or unreadable file, a YAML error, a key that is given twice, a circle of bases.
    """
    return _resolve(path, chain=())


def _resolve(path: Path, chain: tuple[Path, ...]) -> Resolved:
    identity = path.resolve()
    if identity in chain:
        circle = [*chain[chain.index(identity) :], identity]
        raise UserError(f"{shown(circle[0])}: base: a circle, {' -> '.join(map(shown, circle))}")
    own = read_yaml(path)
    bases = own.pop("base", None) or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{shown(path)}: base: expected a list of file names")
    data: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {(): shown(path)}
    for base in bases:
        inherited = _resolve(_find_base(base, path), (*chain, identity))
        _merge(data, origins, inherited.data, inherited.origins)
    _merge(data, origins, own, dict.fromkeys([(), *_key_paths(own)], shown(path)))
    return Resolved(data, origins)


def _find_base(base: str, path: Path) -> Path:
    for folder in (path.resolve().parent, config_root()):
        if (folder / base).is_file():
            return folder / base
    raise UserError(f"{shown(path)}: base: {base!r} is neither beside this file nor in cfg/")


def _merge(
    data: dict[str, Any], origins: dict[KeyPath, str], own: dict[str, Any], sources: dict[KeyPath, str]
) -> None:
    """Lay `own` over `data` in place, and its origins over `origins`."""

    def lay(under: dict[str, Any], over: dict[str, Any], prefix: KeyPath) -> None:
        for key, value in over.items():
            path = (*prefix, key)
            old = under.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                lay(old, value, path)
            else:
                for stale in [known for known in origins if known[: len(path)] == path]:
                    del origins[stale]
                under[key] = value

    lay(data, own, ())
    origins.update(sources)


def _key_paths(data: dict[str, Any], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in data.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _key_paths(value, (*prefix, key))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that one YAML file holds; all its keys are text. Raises UserError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{shown(path)}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{shown(path)}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{shown(path)}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{shown(path)}: expected a mapping of sections at the top")
    return data


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses what plain YAML lets pass: a key given twice (the last would win unseen), a key that is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
