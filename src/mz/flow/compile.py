"""The compile stage: files that run on a device, proven equal to the emulator."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mz
from mz import archive as har
from mz import zoo
from mz.archive import Archive
from mz.compiler import summarize
from mz.compiler.device import plan_device
from mz.compiler.emitters import EMITTERS, Source
from mz.errors import UserError
from mz.flow.networks import load, working_arch
from mz.flow.optimize import optimize
from mz.flow.options import CompileResult, ModelRef, Note, OptimizeOptions, Progress, no_note, no_progress
from mz.flow.verify import verify as run_files
from mz.optimize import own_pixels


def compile_model(
    ref: ModelRef,
    *,
    hw_arch: str | None = None,
    out: Path | None = None,
    emit: Sequence[str] = (),
    verify: bool = False,
    data_path: Path | None = None,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> CompileResult:
    """Writes into the folder `out` (`<model>_compiled`): the forms of the network that `emit` names (all that the
    hw_arch has), its packed constants with their index, `<model>.json`, and `<model>_compiled.har`.

    Stages that the input lacks are run first. Raises UserError where the archive was quantized for another hw_arch, the
    hw_arch does not take the network or has no room for it, the folder cannot be written, or verification finds a
    differing integer (then nothing is written).
    """
    archive = load(ref, hw_arch=hw_arch, note=note, progress=progress)
    arch = working_arch(archive, hw_arch)
    forms = _forms(arch, emit)
    if archive.quantization is None:
        note(f"{archive.name}: not quantized yet, optimizing first")
        archive = optimize(ref, OptimizeOptions(hw_arch=hw_arch), progress=progress, note=note).archive
    if arch.name != archive.hw_arch:
        raise UserError(
            f"{archive.name}: was quantized for {archive.hw_arch}, not {arch.name}: "
            f"run `mz optimize --hw-arch {arch.name}`"
        )
    assert archive.quantization is not None
    graph, params = archive.working_graph, archive.working_params
    plan = plan_device(arch, graph, params, archive.quantization)
    pixels = own_pixels(archive.input_form)
    source = Source(archive.name, graph, params, archive.quantization, _metadata(archive, arch), pixels)
    made = {form: EMITTERS[form](source) for form in forms}
    summary = summarize(graph, archive.quantization) | {"hw_arch": arch.name}
    sections = plan.to_dict()
    verdict = run_files(ref, archive, made, data_path, progress) if verify else None
    artefacts = {name: content for files in made.values() for name, content in files.items()}
    artefacts |= {
        f"{archive.name}.weights.bin": plan.packed.data,
        f"{archive.name}.weights.json": _json(plan.packed.index),
        f"{archive.name}.json": _json({**summary, **sections}),
    }
    compiled = dataclasses.replace(
        archive,
        state="compiled",
        artefacts=artefacts,
        report=archive.report | {"compile": {"summary": summary, "verify": verdict, **sections}},
        history=[e for e in archive.history if e["stage"] != "compile"]
        + [
            {"stage": "compile", "settings": {"hw_arch": arch.name, "targets": list(forms), "verify": verify}}
        ],
    )
    folder = out or Path(f"{archive.name}_compiled")
    path = folder / f"{archive.name}_compiled.har"
    _make_folder(folder)
    files = []
    for name, content in artefacts.items():
        _make_folder((folder / name).parent)
        with har.writing(folder / name) as file:
            file.write(content)
        files.append(folder / name)
    har.write(compiled, path)
    return CompileResult(compiled, path, (*files, path), summary, verdict, sections)


def _forms(arch: zoo.HwArch, asked: Sequence[str]) -> tuple[str, ...]:
    """The forms to write, each once. Raises UserError for one that the target does not have."""
    for form in asked:
        if form not in arch.emit:
            raise UserError(f"--emit {form}: hw_arch {arch.name} has the forms {', '.join(arch.emit)}")
    return tuple(dict.fromkeys(asked or arch.emit))


def _metadata(archive: Archive, arch: zoo.HwArch) -> dict[str, str]:
    """Where a file comes from; the checksum is that of the integers in the archive, `<name>.q.npz`."""
    return {
        "mz_version": mz.__version__,
        "mz_network": archive.name,
        "mz_hw_arch": arch.name,
        "mz_weight_scale": arch.weight_scale,
        "mz_integers_sha256": hashlib.sha256(har.members(archive)[f"{archive.name}.q.npz"]).hexdigest(),
    }


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
