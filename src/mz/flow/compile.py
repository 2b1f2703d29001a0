"""The compile stage: files that run on a device, proven equal to the emulator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mz import archive as har
from mz import data, tasks
from mz.archive import Archive
from mz.compiler import summarize
from mz.compiler.emitters import onnx as onnx_emitter
from mz.emulator import NumpySession
from mz.engines.compare import Comparison
from mz.engines.original import OriginalSession
from mz.errors import UserError
from mz.flow.networks import configuration, load, only_input, working_arch
from mz.flow.optimize import optimize
from mz.flow.options import CompileResult, ModelRef, Note, OptimizeOptions, Progress, no_note, no_progress
from mz.optimize import device_input

VERIFY_IMAGES = 64
_VERIFY_BATCH = 8


def compile_model(
    ref: ModelRef,
    *,
    hw_arch: str | None = None,
    out: Path | None = None,
    verify: bool = False,
    data_path: Path | None = None,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> CompileResult:
    """Writes `<model>.onnx`, `<model>.json` and `<model>_compiled.har` into the folder `out` (`<model>_compiled`).

    Stages that the input lacks are run first. Raises UserError where the archive was quantized for another hw_arch, the
    folder cannot be written, or verification finds a differing integer (then nothing is written).
    """
    archive = load(ref, hw_arch=hw_arch, note=note, progress=progress)
    if archive.quantization is None:
        note(f"{archive.name}: not quantized yet, optimizing first")
        archive = optimize(ref, OptimizeOptions(hw_arch=hw_arch), progress=progress, note=note).archive
    arch = working_arch(archive, hw_arch)
    if arch.name != archive.hw_arch:
        raise UserError(
            f"{archive.name}: was quantized for {archive.hw_arch}, not {arch.name}: "
            f"run `mz optimize --hw-arch {arch.name}`"
        )
    assert archive.quantization is not None
    graph, params = archive.working_graph, archive.working_params
    model = onnx_emitter.emit(graph, params, archive.quantization)
    summary = summarize(graph, archive.quantization) | {"hw_arch": arch.name}
    verdict = _verify(ref, archive, model, data_path, progress) if verify else None
    artefacts = {
        f"{archive.name}.onnx": model,
        f"{archive.name}.json": (json.dumps(summary, indent=1) + "\n").encode(),
    }
    compiled = dataclasses.replace(
        archive,
        state="compiled",
        artefacts=artefacts,
        report=archive.report | {"compile": {"summary": summary, "verify": verdict}},
        history=[e for e in archive.history if e["stage"] != "compile"]
        + [{"stage": "compile", "settings": {"hw_arch": arch.name, "targets": ["onnx"], "verify": verify}}],
    )
    folder = out or Path(f"{archive.name}_compiled")
    path = folder / f"{archive.name}_compiled.har"
    _make_folder(folder)
    files = []
    for name, content in artefacts.items():
        with har.writing(folder / name) as file:
            file.write(content)
        files.append(folder / name)
    har.write(compiled, path)
    return CompileResult(compiled, path, (*files, path), summary, verdict)


def _verify(
    ref: ModelRef, archive: Archive, model: bytes, data_path: Path | None, progress: Progress
) -> dict[str, Any]:
    """Runs the emitted ONNX in plain onnxruntime and the numpy emulator on real images; refuses any difference."""
    import onnx

    assert archive.quantization is not None
    graph = archive.working_graph
    judge = NumpySession(graph, archive.working_params, archive.quantization)
    artefact = OriginalSession(onnx.load_from_string(model))
    feed = only_input(graph)
    comparison = Comparison()
    with progress("verify", VERIFY_IMAGES) as advance:
        for batch in islice(_images(ref, archive, data_path), -(-VERIFY_IMAGES // _VERIFY_BATCH)):
            feeds = {feed: device_input(archive.input_form, batch)}
            comparison.update(judge.run(feeds), artefact.run(feeds))
            advance(len(batch))
    if comparison.differing:
        raise UserError(
            f"{archive.name}.onnx: {comparison.differing} of {comparison.integers} output integers differ from the "
            f"numpy emulator's on this processor, so nothing was written; first {comparison.first_difference}"
        )
    return {
        "images": comparison.images,
        "integers": comparison.integers,
        "differing": comparison.differing,
        "against": "numpy emulator",
    }


def _images(ref: ModelRef, archive: Archive, data_path: Path | None) -> Iterator[np.ndarray]:
    config = configuration(archive, ref)
    dataset = data.open_evaluation(config, data_path)
    dataset = data.subset(dataset, min(VERIFY_IMAGES, len(dataset)))
    task = tasks.load(config)
    for images, _ in data.batches(dataset, task.preprocess_batch, _VERIFY_BATCH):
        yield images


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
