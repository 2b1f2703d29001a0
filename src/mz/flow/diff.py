"""The diff of two runs: the first layer at which two engines, archives or compiled files give other integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mz import archive as har
from mz import data, tasks
from mz.archive import Archive
from mz.compiler.emitters import c99
from mz.emulator import NumpySession
from mz.engines.compare import Comparison, Difference
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.native import open_native
from mz.errors import UserError
from mz.flow.compiled import c_files, compiled_c_session, onnx_session
from mz.flow.evaluate import batch_size
from mz.flow.networks import configuration, only_input
from mz.flow.options import ModelRef, Note, Progress, no_note, no_progress
from mz.optimize import device_input

IMAGES = 16
"""Images unless the user names a number."""


class Session(Protocol):
    """A quantized network, ready to run: real inputs by Input layer -> integers by layer."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


Opener = Callable[[Archive, Iterable[str]], Session]


def _open_numpy(archive: Archive, taps: Iterable[str]) -> Session:
    assert archive.quantization is not None
    return NumpySession(archive.working_graph, archive.working_params, archive.quantization, taps)


def _open_onnxruntime(archive: Archive, taps: Iterable[str]) -> Session:
    assert archive.quantization is not None
    return IntegerOrtSession(archive.working_graph, archive.working_params, archive.quantization, taps)


def _open_artefact(archive: Archive, taps: Iterable[str]) -> Session:
    content = archive.artefacts.get(f"{archive.name}.onnx")
    if content is None:
        raise UserError(
            f"{archive.name}: the archive (state {archive.state}) holds no compiled ONNX file: give "
            "MODEL_compiled.har, or two engines by --engines"
        )
    return onnx_session(archive, content, taps)


def _open_native(archive: Archive, taps: Iterable[str]) -> Session:
    """C code made anew, in which the layers of `taps` are outputs; without any, that of the archive if it has some."""
    if not taps and c_files(archive.artefacts):
        return compiled_c_session(archive)
    assert archive.quantization is not None
    graph = archive.working_graph
    graph = dataclasses.replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *taps))))
    files = c99.emit(archive.name, graph, archive.working_params, archive.quantization)
    return open_native(files, archive.name)


ENGINES: dict[str, Opener] = {
    "numpy": _open_numpy,
    "onnxruntime": _open_onnxruntime,
    "artefact": _open_artefact,
    "native": _open_native,
}
"""By name: opens an archive's integers, with the tensors of `taps` beside its outputs."""


@dataclass(frozen=True, slots=True)
class DiffResult:
    """first, second: what was compared. layers: by layer, in order, how many integers differ.

    first_difference: none if all are equal. only_in_one: layers that one of the two networks lacks. other_scales:
    layers whose integers stand for other real values. fused: the outputs differ only while no layer is watched, so
    that a fusion of the runtime is to blame.
    """

    first: str
    second: str
    images: int
    integers: int
    layers: dict[str, int]
    first_difference: Difference | None
    only_in_one: tuple[str, ...] = ()
    other_scales: tuple[str, ...] = ()
    fused: bool = False

    @property
    def identical(self) -> bool:
        return self.first_difference is None


def diff(
    first: Path,
    second: Path | None = None,
    *,
    engines: tuple[str, ...] = (),
    data_path: Path | None = None,
    data_count: int | None = None,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> DiffResult:
    """Runs two sides over the same images and compares every layer that both have.

    Two archives: each in numpy, or each in its engine. One archive: numpy against its compiled file, or two engines.
    Raises UserError for archives without integers, unlike inputs or an unknown engine.
    """
    archives = [_quantized(path) for path in (first, second or first)]
    names = _engines(engines, alone=second is None)
    inputs = [(only_input(a.working_graph), a.working_graph.inputs[0].shape) for a in archives]
    if inputs[0] != inputs[1]:
        raise UserError(
            f"{second}: its input {inputs[1]} is not that of {first}, {inputs[0]}: nothing to compare"
        )
    layers = [
        {layer.name: layer for layer in archive.working_graph.layers if not layer.host}
        for archive in archives
    ]
    common = [
        name for name in layers[0] if name in layers[1] and layers[0][name].shape == layers[1][name].shape
    ]
    watched = [ENGINES[name](archive, common) for name, archive in zip(names, archives, strict=True)]
    plain = [ENGINES[name](archive, ()) for name, archive in zip(names, archives, strict=True)]
    by_layer, by_output = Comparison(), Comparison()
    config = configuration(archives[0], ModelRef(har=first))
    dataset = data.open_evaluation(config, data_path, data_count or IMAGES)
    size = batch_size(archives[0].working_graph, every_layer=True)
    with progress("diff", len(dataset)) as advance:
        for images, _ in data.batches(dataset, tasks.load(config).preprocess_batch, size):
            feeds = [{inputs[0][0]: device_input(archive.input_form, images)} for archive in archives]
            found = [session.run(part) for session, part in zip(watched, feeds, strict=True)]
            by_layer.update({name: found[0][name] for name in common if name in found[0]}, found[1])
            by_output.update(plain[0].run(feeds[0]), plain[1].run(feeds[1]))
            advance(len(images))
    fused = not by_layer.differing and bool(by_output.differing)
    counted = by_output if fused else by_layer
    if fused:
        note("the outputs differ, but not while layers are watched: a fusion of the runtime is to blame")
    quantizations = [archive.quantization for archive in archives]
    assert quantizations[0] is not None and quantizations[1] is not None
    return DiffResult(
        first=f"{first.name} ({names[0]})",
        second=f"{(second or first).name} ({names[1]})",
        images=counted.images,
        integers=counted.integers,
        layers=counted.layers,
        first_difference=counted.first_difference,
        only_in_one=tuple(sorted(set(layers[0]) ^ set(layers[1]))),
        other_scales=tuple(
            name for name in common if quantizations[0].tensors[name] != quantizations[1].tensors[name]
        ),
        fused=fused,
    )


def _quantized(path: Path) -> Archive:
    archive = har.read(path)
    if archive.quantization is None:
        raise UserError(f"{path}: holds no integers yet (state {archive.state}): run `mz optimize` first")
    return archive


def _engines(asked: tuple[str, ...], alone: bool) -> tuple[str, str]:
    """The two engines: those asked for (one name is for both archives), else the usual."""
    for name in asked:
        if name not in ENGINES:
            raise UserError(f"--engines: no engine {name!r}; there are {', '.join(ENGINES)}")
    if not asked:
        return ("numpy", "artefact") if alone else ("numpy", "numpy")
    if len(asked) > 2 or (alone and (len(asked) != 2 or asked[0] == asked[1])):
        raise UserError(
            "--engines: name two, as in numpy,onnxruntime" + (" (not the same twice)" if alone else "")
        )
    return asked[0], asked[-1]
