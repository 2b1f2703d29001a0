"""What a search has found so far, kept beside the archive that it writes, so that a killed search goes on where it was.

The file is JSON, written whole or not at all after every recipe. It belongs to one network, one pair of image sets and
one set of options: under any other key it is begun anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mz
from mz import archive as har
from mz import data
from mz.archive import Archive
from mz.flow.options import OptimizeOptions, Tried
from mz.script import ScriptSettings, render

_FORMAT = 1


@dataclass
class State:
    """tried: by recipe. patches: the scripts that an analysis wrote, by recipe. kept: the recipe whose archive lies at
    its path, and that file's SHA-256.
    """

    path: Path
    key: str
    tried: dict[str, Tried] = field(default_factory=dict)
    patches: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, str] | None = None

    def save(self) -> None:
        plain = {
            "format": _FORMAT,
            "key": self.key,
            "tried": [asdict(one) for one in self.tried.values()],
            "patches": self.patches,
            "kept": self.kept,
        }
        with har.writing(self.path) as file:
            file.write((json.dumps(plain, indent=1) + "\n").encode())


def state_path(har_path: Path) -> Path:
    """Where a search that writes `har_path` keeps its state."""
    return har_path.with_name(har_path.name + ".search.json")


def open_state(path: Path, key: str) -> State:
    """What was found under this key, or nothing yet. A file that cannot be read counts as none."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] == _FORMAT and plain["key"] == key:
            tried = [Tried(**one) for one in plain["tried"]]
            kept = None if plain["kept"] is None else (str(plain["kept"][0]), str(plain["kept"][1]))
            return State(path, key, {one.recipe: one for one in tried}, dict(plain["patches"]), kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return State(path, key)


def search_key(
    archive: Archive,
    settings: ScriptSettings,
    options: OptimizeOptions,
    calibration: data.Dataset,
    evaluation: data.Dataset,
) -> str:
    """SHA-256 (hex) over everything that a recipe's result depends on; not the question that is asked of it."""
    digest = hashlib.sha256()
    parsed = Archive(archive.name, "parsed", archive.hw_arch, archive.config, archive.graph, archive.params)
    for name, content in har.members(parsed).items():
        if not name.endswith(".metadata.json"):
            digest.update(f"{name} {len(content)} ".encode() + content)
    asked: dict[str, Any] = {
        "version": mz.__version__,
        "script": render(settings),
        "precision": options.precision,
        "compression_level": options.compression_level,
        "hw_arch": options.hw_arch or archive.hw_arch,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "calibration": data.content_key(calibration),
        "evaluation": data.content_key(evaluation),
    }
    digest.update(json.dumps(asked, sort_keys=True).encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file; empty for none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
