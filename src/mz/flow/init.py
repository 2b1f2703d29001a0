"""The init stage: a YAML for a network that is in no zoo."""

from __future__ import annotations

from pathlib import Path

from mz.archive import writing
from mz.errors import UserError
from mz.flow.describe import Described, describe, name_of
from mz.flow.networks import parse_alone
from mz.flow.options import ModelRef


def init(ref: ModelRef, out: Path | None = None, *, overwrite: bool = False) -> tuple[Path, Described]:
    """Writes the configuration of the ONNX file that `ref` names (`<name>.yaml`); returns where, and what it says.

    Raises UserError for a network that the parser does not take or that reads no image, and for a YAML that is there.
    """
    assert ref.ckpt is not None
    path = out or Path(f"{name_of(ref.ckpt)}.yaml")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: is there already; give another --out, or --overwrite")
    described = describe(
        parse_alone(ref),
        ref.ckpt,
        ref.images,
        start_nodes=ref.start_nodes,
        end_nodes=ref.end_nodes,
        folder=path.parent,
    )
    with writing(path) as file:
        file.write(described.text.encode())
    return path, described
