"""Networks and hw_archs of the zoo, or of a YAML file that the user wrote, as validated structs; and their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mz.errors import UserError
from mz.zoo.cache import digest
from mz.zoo.hierarchy import Resolved, resolve
from mz.zoo.locate import bundled_root, config_root, hw_arch_names, nearest, network_names
from mz.zoo.schema import BundledSource, FileSource, HwArch, NetworkConfig
from mz.zoo.telling import Note, Progress, no_note, no_progress
from mz.zoo.validate import convert

T = TypeVar("T", bound=msgspec.Struct)
_FEW = 10


def load_network(name_or_path: str | Path) -> NetworkConfig:
    """The configuration of a network of the zoo (by name) or of a YAML file (by path), bases merged in.

    Raises UserError for an unknown name and for whatever is wrong in the files.
    """
    return _load(name_or_path, "networks", network_names(), "network", NetworkConfig)


def load_hw_arch(name_or_path: str | Path) -> HwArch:
    """A target of the zoo (by name) or of a YAML file (by path). Raises UserError as `load_network` does."""
    return _load(name_or_path, "hw_archs", hw_arch_names(), "hw_arch", HwArch)


def _load(name_or_path: str | Path, folder: str, names: list[str], noun: str, kind: type[T]) -> T:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        return convert(resolve(Path(text)), kind)
    if text not in names:
        hint, listed = nearest(text, names), f"; there are {', '.join(names)}"
        raise UserError(f"unknown {noun} {text!r}{hint}{listed if not hint or len(names) < _FEW else ''}")
    return convert(resolve(config_root() / folder / f"{text}.yaml"), kind)


def model_path(
    config: NetworkConfig,
    *,
    folder: Path | None = None,
    offline: bool = False,
    note: Note = no_note,
    progress: Progress = no_progress,
) -> Path:
    """The network's ONNX file on this machine, its size and sha256 verified; fetched if it is not here yet.

    folder: of the YAML, from which the path of a `file` source counts (default: the current one).
    offline: never touch the network (MZ_OFFLINE says the same). note: told what is downloaded and built.
    Raises UserError where the configuration names no source, or its file cannot be had or is not the one it names.
    """
    source = config.paths.source
    if source is None:
        raise UserError(
            f"{config.network.name}: no paths.source in its configuration: name the ONNX file with --ckpt"
        )
    if isinstance(source, FileSource):
        return _users_file(config.network.name, source, (folder or Path()) / source.path)
    if not isinstance(source, BundledSource):
        from mz.zoo.sources import obtain

        return obtain(source, config.network.name, offline=offline, note=note, progress=progress)
    path = bundled_root() / source.file
    if not path.is_file():
        raise UserError(f"{config.network.name}: the bundled file {source.file} is missing: reinstall mz")
    found = digest(path)
    if (path.stat().st_size, found) != (source.bytes, source.sha256):
        raise UserError(
            f"{config.network.name}: {path} is not the file that its configuration names: "
            f"{path.stat().st_size} bytes, sha256 {found}; wanted {source.bytes} bytes, sha256 {source.sha256}"
        )
    return path


def _users_file(name: str, source: FileSource, path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{name}: paths.source: {path}: no such file; mend the path, or name the file with --ckpt"
        )
    if digest(path) != source.sha256:
        raise UserError(
            f"{name}: {path} has changed since its YAML was written (another sha256): write the YAML anew with "
            "mz init, or name the file with --ckpt"
        )
    return path


def script_path(config: NetworkConfig) -> Path | None:
    """The network's own model script, or None where it has none. Raises UserError if the file is missing."""
    name = config.paths.alls_script
    if name is None:
        return None
    path = config_root() / "scripts" / name
    if not path.is_file():
        raise UserError(f"{config.network.name}: paths.alls_script: {name!r} is not in cfg/scripts")
    return path


def to_dict(config: NetworkConfig | HwArch) -> dict[str, Any]:
    """Plain mappings, lists, texts and numbers that YAML and JSON can hold; `from_dict` reads them back."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return plain


def from_dict(data: Mapping[str, Any], origin: str) -> NetworkConfig:
    """The inverse of `to_dict`. Raises UserError naming `origin` and the key for data that does not fit."""
    return convert(Resolved(dict(data), {(): origin}), NetworkConfig)
