"""The eval stage: a network's accuracy on a data set, and what its integers lost against the float network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mz import data, tasks
from mz.archive import Archive
from mz.emulator import NumpySession, Saturation
from mz.engines.compare import Comparison
from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.errors import UserError
from mz.flow.accuracy import with_accuracy
from mz.flow.layer_dump import LayerDump
from mz.flow.native import compiled_c_session
from mz.flow.networks import configuration, load, only_input
from mz.flow.options import EvalOptions, EvalResult, ModelRef, Note, Progress, no_note, no_progress
from mz.flow.visualize import Gallery
from mz.graph import Graph, Params, Quantization
from mz.optimize import device_input
from mz.quantize import layer_bytes
from mz.report.statistics import SnrMeter, share_interval

_BATCH_BYTES = 128 << 20
_MOST_IMAGES_PER_BATCH = 64


class IntegerSession(Protocol):
    """A quantized graph, ready to run: real inputs by Input layer -> integers of the accelerator's outputs."""

    name: str
    notes: tuple[str, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


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
    emulated = options.target in ("emulator", "native")
    optimized = _optimized(archive) if options.target == "fp_optimized" else None
    if optimized and options.dump_layers:
        raise UserError("--dump-layers writes the layers of --target full_precision or emulator")
    if options.target == "native" and (options.dump_layers or options.engine != "auto"):
        raise UserError(
            "--target native runs C code that gives outputs alone: leave --engine and --dump-layers out"
        )
    dump = LayerDump(options.dump_layers, archive, emulated) if options.dump_layers else None
    taps = dump.layers if dump else ()
    reference = FloatSession(archive.graph, archive.params, () if emulated else taps)
    saturation = _saturation(archive, options)
    quantized = _quantized(archive, options, taps, saturation) if emulated else optimized
    for line in quantized.session.notes if isinstance(quantized, Quantized) else ():
        note(line)
    size = options.batch_size or batch_size(archive.working_graph, every_layer=dump is not None)

    float_eval, integer_eval, snr = task.evaluator(), task.evaluator(), SnrMeter()
    gallery = Gallery(options.visualize, task, dataset) if options.visualize else None
    seconds = 0.0
    agreements: list[tasks.Agreement] = []
    damaged: list[str] = []

    def leave_out(error: data.DamagedImageError) -> None:
        damaged.append(str(error))
        note(f"{error}; left out")
        advance(1)

    with progress(archive.name, len(dataset)) as advance:
        stream = data.batches(dataset, task.preprocess_batch, size, damaged=leave_out)
        for index, (images, about) in enumerate(stream):
            feeds = {feed: images}
            began = time.perf_counter()
            expected = reference.run(feeds)
            if quantized is None:
                seconds += time.perf_counter() - began
                if dump is not None:
                    dump.add(expected, about)
            float_outputs = [expected[name] for name in archive.graph.outputs]
            float_answers = float_eval.update(float_outputs, about)
            outputs = None
            if quantized is not None:
                feeds = {feed: device_input(archive.input_form, images)}
                if index == 0:
                    quantized.check(feeds)
                began = time.perf_counter()
                integers = quantized.session.run(feeds)
                restored = quantized.restore(integers)
                seconds += time.perf_counter() - began
                if dump is not None:
                    dump.add(integers, about)
                if quantized.counter is not None:
                    quantized.counter.run(feeds)
                outputs = [restored[name] for name in quantized.graph.outputs]
                answers = integer_eval.update(outputs, about)
                agreements.append(task.agreement(float_answers, answers))
                for ours, theirs in zip(float_outputs, outputs, strict=True):
                    snr.update(ours, theirs)
            if gallery is not None:
                gallery.add(float_outputs, outputs, about)
            advance(len(images))

    if len(damaged) == len(dataset):
        raise UserError(
            f"{dataset.name}: not one of its {len(dataset)} images can be read; the first: {damaged[0]}"
        )
    baseline = float_eval.result()
    result = baseline if quantized is None else integer_eval.result()
    engine = quantized.session.name if isinstance(quantized, Quantized) else "onnxruntime"
    measured = EvalResult(
        model=archive.name,
        target=options.target,
        engine=engine,
        header=_header(archive, quantized, engine),
        metrics=result.metrics,
        ci95=result.ci95,
        count=result.count,
        images_per_second=result.count / seconds if seconds > 0 else 0.0,
        precision="float32" if quantized is None else quantized.precision,
        baseline=None if quantized is None else {"metrics": baseline.metrics, "ci95": baseline.ci95},
        degradation=None if quantized is None else tasks.degradation(baseline, result),
        **_agreement(agreements),
        snr_db=None if quantized is None else snr.db,
        damaged=tuple(damaged),
        saturation=_counted(archive.working_graph, saturation),
    )
    source = options.data_path.name if options.data_path else dataset.name
    return dataclasses.replace(measured, archive=with_accuracy(archive, measured, source))


def _agreement(batches: Sequence[tasks.Agreement]) -> dict[str, Any]:
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


@dataclasses.dataclass(frozen=True)
class Optimized:
    """The float network after its passes, run in place of an integer one."""

    graph: Graph
    session: FloatSession
    precision: str = "float32"
    counter: None = None

    def restore(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(outputs)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Nothing is promised of a lossy pass but what it reports."""


def _optimized(archive: Archive) -> Optimized:
    if archive.fpo_graph is None:
        raise UserError(
            f"{archive.name}: no full-precision pass changed it (state {archive.state}): use --target full_precision"
        )
    graph, params = archive.working_graph, archive.working_params
    return Optimized(graph, FloatSession(graph, params))


@dataclasses.dataclass(frozen=True)
class Quantized:
    """The integer network of an archive with its host part, and the emulator that judges it.

    counter: the emulator that counts clipped integers beside another engine.
    """

    graph: Graph
    params: Params
    quantization: Quantization
    session: IntegerSession
    host: HostSession
    counter: NumpySession | None = None

    @property
    def precision(self) -> str:
        return _precision(self.quantization)

    def restore(self, integers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The engine's integers -> real network outputs."""
        wanted = self.graph.accelerator_outputs()
        return self.host.run(
            {name: self.quantization.tensors[name].dequantize(integers[name]) for name in wanted}
        )

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raises UserError unless the engine's integers are the numpy emulator's."""
        if isinstance(self.session, NumpySession):
            return
        comparison = Comparison()
        judge = NumpySession(self.graph, self.params, self.quantization)
        comparison.update(judge.run(feeds), self.session.run(feeds))
        if comparison.differing:
            raise UserError(
                f"{self.graph.name}: {comparison.differing} of {comparison.integers} output integers from the "
                f"{self.session.name} engine differ from the numpy emulator's on this processor: use --target emulator "
                f"--engine numpy, and find the layer by mz diff --engines numpy,{self.session.name}"
            )


def _quantized(
    archive: Archive, options: EvalOptions, taps: Sequence[str], saturation: Saturation | None
) -> Quantized:
    if archive.quantization is None:
        raise UserError(
            f"{archive.name}: no integers yet (state {archive.state}): run `mz optimize` and give its archive by --har"
        )
    graph, params, quantization = archive.working_graph, archive.working_params, archive.quantization
    host = HostSession(graph, params)
    if options.engine == "numpy":
        judge = NumpySession(graph, params, quantization, taps, saturation=saturation)
        return Quantized(graph, params, quantization, judge, host)
    session: IntegerSession
    if options.target == "native":
        session = compiled_c_session(archive)
    else:
        session = IntegerOrtSession(graph, params, quantization, taps)
    counter = NumpySession(graph, params, quantization, saturation=saturation) if saturation else None
    return Quantized(graph, params, quantization, session, host, counter)


def _saturation(archive: Archive, options: EvalOptions) -> Saturation | None:
    if not options.saturation:
        return None
    if options.target not in ("emulator", "native"):
        raise UserError("--saturation counts clipped integers: it needs --target emulator")
    return Saturation(archive.quantization or Quantization())


def _counted(graph: Graph, saturation: Saturation | None) -> dict[str, dict[str, int]] | None:
    """The counters by layer, in the graph's order."""
    if saturation is None:
        return None
    found = saturation.layers
    return {
        layer.name: dataclasses.asdict(found[layer.name]) for layer in graph.layers if layer.name in found
    }


def _header(archive: Archive, quantized: Quantized | Optimized | None, engine: str) -> str:
    if not isinstance(quantized, Quantized):
        return f"{archive.name} | float32{' after full-precision passes' if quantized else ''} | {engine}"
    road = "C code" if engine == "native" else f"emulator: {engine}"
    proof = (
        ""
        if engine == "numpy"
        else f"{'' if engine == 'native' else ' integer engine'}, first batch identical to numpy"
    )
    return f"{archive.name} | {archive.hw_arch} {quantized.precision} | {road}{proof}"


def _precision(quantization: Quantization) -> str:
    """`a8_w8`; where layers differ, the most common precision and a plus sign."""
    found = [str(quantization.layer_precision(name)) for name in quantization.weights]
    common = max(sorted(set(found)), key=found.count) if found else "a8"
    return common + ("+" if len(set(found)) > 1 else "")
