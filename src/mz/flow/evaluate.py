"""The eval stage: a network's accuracy on a data set, and what its integers lost against the float network."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mz import data, tasks
from mz.archive import Archive
from mz.emulator import Saturation
from mz.engines.float_ort import FloatSession
from mz.errors import UserError
from mz.flow.accuracy import with_accuracy
from mz.flow.candidate import Optimized, Quantized, in_question
from mz.flow.layer_dump import LayerDump
from mz.flow.networks import configuration, load, only_input
from mz.flow.options import EvalOptions, EvalResult, ModelRef, Note, Progress, no_note, no_progress
from mz.flow.visualize import Gallery
from mz.graph import Graph, Quantization
from mz.optimize import device_input
from mz.quantize import layer_bytes
from mz.report.statistics import SnrMeter, share_interval

_BATCH_BYTES = 128 << 20
_MOST_IMAGES_PER_BATCH = 64


def evaluate(
    ref: ModelRef, options: EvalOptions, *, progress: Progress = no_progress, note: Note = no_note
) -> EvalResult:
    """Runs the network over its data set.

    Target `full_precision` runs the float network; with it beside them, `fp_optimized` runs what full-precision passes
    made of it, `emulator` the integers of an archive and `native` the C code of a compiled one. Raises UserError where
    the archive holds no such network, data are missing, or engines differ.
    """
    archive = load(ref, note=note, progress=progress)
    task = tasks.load(configuration(archive, ref))
    dataset = data.open_evaluation(configuration(archive, ref), options.data_path, options.data_count)
    return evaluate_archive(archive, task, dataset, options, progress=progress, note=note)


def evaluate_archive(
    archive: Archive,
    task: tasks.Task,
    dataset: data.Dataset,
    options: EvalOptions,
    *,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> EvalResult:
    """Likewise for an archive and images at hand."""
    feed = only_input(archive.graph)
    _check(archive, options)
    integers = options.target in ("emulator", "native")
    dump = LayerDump(options.dump_layers, archive, integers) if options.dump_layers else None
    taps = dump.layers if dump else ()
    reference = FloatSession(archive.graph, archive.params, () if integers else taps)
    saturation = Saturation(archive.quantization or Quantization()) if options.saturation else None
    judged = in_question(archive, options, taps, saturation)
    for line in judged.session.notes if isinstance(judged, Quantized) else ():
        note(line)
    gallery = Gallery(options.visualize, task, dataset) if options.visualize else None
    size = options.batch_size or batch_size(archive.working_graph, every_layer=dump is not None)
    tally = _Tally(task)
    damaged: list[str] = []

    def leave_out(error: data.DamagedImageError) -> None:
        damaged.append(str(error))
        note(f"{error}; left out")
        advance(1)

    with progress(archive.name, len(dataset)) as advance:
        for images, about in data.batches(dataset, task.preprocess_batch, size, damaged=leave_out):
            began = time.perf_counter()
            expected = reference.run({feed: images})
            float_outputs, outputs = [expected[name] for name in archive.graph.outputs], None
            if judged is None:
                tally.seconds += time.perf_counter() - began
                if dump is not None:
                    dump.add(expected, about)
            else:
                feeds = {feed: device_input(archive.input_form, images)}
                if not tally.agreements:
                    judged.check(feeds)
                outputs = _run(judged, feeds, tally, dump, about)
            tally.add(float_outputs, outputs, about)
            if gallery is not None:
                gallery.add(float_outputs, outputs, about)
            advance(len(images))

    if len(damaged) == len(dataset):
        raise UserError(
            f"{dataset.name}: not one of its {len(dataset)} images can be read; the first: {damaged[0]}"
        )
    measured = dataclasses.replace(
        _result(archive, options, judged, tally),
        damaged=tuple(damaged),
        saturation=_counted(archive.working_graph, saturation),
    )
    source = options.data_path.name if options.data_path else dataset.name
    return dataclasses.replace(measured, archive=with_accuracy(archive, measured, source))


def _check(archive: Archive, options: EvalOptions) -> None:
    """Raises UserError for options that the target has no use for."""
    if options.target == "fp_optimized" and archive.fpo_graph is not None and options.dump_layers:
        raise UserError("--dump-layers writes the layers of --target full_precision or emulator")
    if options.target == "native" and (options.dump_layers or options.engine != "auto"):
        raise UserError(
            "--target native runs C code that gives outputs alone: leave --engine and --dump-layers out"
        )
    if options.saturation and options.target not in ("emulator", "native"):
        raise UserError("--saturation counts clipped integers: it needs --target emulator")


@dataclass
class _Tally:
    """What the float network and, beside it, the one in question come to, batch by batch.

    seconds: that the network in question took, the float one where there is no other.
    """

    task: tasks.Task
    seconds: float = 0.0
    snr: SnrMeter = field(default_factory=SnrMeter)
    agreements: list[tasks.Agreement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.baseline, self.judged = self.task.evaluator(), self.task.evaluator()

    def add(self, expected: list[np.ndarray], found: list[np.ndarray] | None, about: data.BatchInfo) -> None:
        """found: outputs of the network in question, if there is one."""
        float_answers = self.baseline.update(expected, about)
        if found is None:
            return
        self.agreements.append(self.task.agreement(float_answers, self.judged.update(found, about)))
        for ours, theirs in zip(expected, found, strict=True):
            self.snr.update(ours, theirs)


def _run(
    judged: Quantized | Optimized,
    feeds: dict[str, np.ndarray],
    tally: _Tally,
    dump: LayerDump | None,
    about: data.BatchInfo,
) -> list[np.ndarray]:
    """The real outputs of the network in question."""
    began = time.perf_counter()
    tensors = judged.session.run(feeds)
    restored = judged.restore(tensors)
    tally.seconds += time.perf_counter() - began
    if dump is not None:
        dump.add(tensors, about)
    if judged.counter is not None:
        judged.counter.run(feeds)
    return [restored[name] for name in judged.graph.outputs]


def _result(
    archive: Archive, options: EvalOptions, judged: Quantized | Optimized | None, tally: _Tally
) -> EvalResult:
    baseline = tally.baseline.result()
    result = baseline if judged is None else tally.judged.result()
    engine = judged.session.name if isinstance(judged, Quantized) else "onnxruntime"
    measured = EvalResult(
        model=archive.name,
        target=options.target,
        engine=engine,
        header=_header(archive, judged, engine),
        metrics=result.metrics,
        ci95=result.ci95,
        count=result.count,
        images_per_second=result.count / tally.seconds if tally.seconds > 0 else 0.0,
        precision="float32",
    )
    if judged is None:
        return measured
    return dataclasses.replace(
        measured,
        precision=judged.precision,
        baseline={"metrics": baseline.metrics, "ci95": baseline.ci95},
        degradation=tasks.degradation(baseline, result),
        **_agreement(tally.agreements),
        snr_db=tally.snr.db,
    )


def _agreement(batches: list[tasks.Agreement]) -> dict[str, Any]:
    """The fields of a result that say how far two networks agree."""
    if not batches:
        return {}
    parts, wholes = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    share = 100 * float(parts.sum() / wholes.sum())
    return {"agreement": share, "agreement_ci95": share_interval(parts, wholes)}


def batch_size(graph: Graph, every_layer: bool = False) -> int:
    """Images a batch: as many, up to 64, as keep one layer's inputs and output in float32 below 128 MiB.

    every_layer: all layers' outputs are wanted and stay in memory together.
    """
    sizes = layer_bytes(graph)
    return max(1, min(_MOST_IMAGES_PER_BATCH, _BATCH_BYTES // (sum(sizes) if every_layer else max(sizes))))


def _counted(graph: Graph, saturation: Saturation | None) -> dict[str, dict[str, int]] | None:
    """The counters by layer, in the graph's order."""
    if saturation is None:
        return None
    found = saturation.layers
    return {
        layer.name: dataclasses.asdict(found[layer.name]) for layer in graph.layers if layer.name in found
    }


def _header(archive: Archive, judged: Quantized | Optimized | None, engine: str) -> str:
    if not isinstance(judged, Quantized):
        return f"{archive.name} | float32{' after full-precision passes' if judged else ''} | {engine}"
    road = "C code" if engine == "native" else f"emulator: {engine}"
    proof = (
        ""
        if engine == "numpy"
        else f"{'' if engine == 'native' else ' integer engine'}, first batch identical to numpy"
    )
    return f"{archive.name} | {archive.hw_arch} {judged.precision} | {road}{proof}"
