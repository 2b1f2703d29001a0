"""The eval stage: a network's accuracy on a data set, and what its integers lost against the float network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mz import data, tasks
from mz.archive import Archive
from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.errors import UserError
from mz.flow.networks import configuration, load, only_input
from mz.flow.options import EvalOptions, EvalResult, ModelRef, Note, Progress, no_note, no_progress
from mz.flow.visualize import Gallery
from mz.graph import Graph, Params, Quantization
from mz.report.statistics import SnrMeter

_VALUES_PER_BATCH = 1 << 20
_MOST_IMAGES_PER_BATCH = 64


class IntegerSession(Protocol):
    """A quantized graph, ready to run: real inputs by Input layer -> integers of the accelerator's outputs."""

    name: str

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


def evaluate(
    ref: ModelRef, options: EvalOptions, *, progress: Progress = no_progress, note: Note = no_note
) -> EvalResult:
    """Runs the network over its data set.

    Target `full_precision` runs the float network, `emulator` the integers of an archive and the float network beside
    them. Raises UserError where the archive holds no integers, data are missing, or engines differ.
    """
    archive = load(ref, note=note, progress=progress)
    config = configuration(archive, ref)
    task = tasks.load(config)
    dataset = data.open_evaluation(config, options.data_path, options.data_count)
    feed = only_input(archive.graph)
    reference = FloatSession(archive.graph, archive.params)
    quantized = _quantized(archive, options) if options.target == "emulator" else None
    size = options.batch_size or batch_size(archive.graph)

    float_eval, integer_eval, snr = task.evaluator(), task.evaluator(), SnrMeter()
    gallery = Gallery(options.visualize, task, dataset) if options.visualize else None
    seconds = part = whole = 0.0
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
            float_outputs = [expected[name] for name in archive.graph.outputs]
            float_answers = float_eval.update(float_outputs, about)
            outputs = None
            if quantized is not None:
                if index == 0:
                    quantized.check(feeds)
                began = time.perf_counter()
                restored = quantized.run(feeds)
                seconds += time.perf_counter() - began
                outputs = [restored[name] for name in quantized.graph.outputs]
                answers = integer_eval.update(outputs, about)
                agreeing, compared = task.agreement(float_answers, answers)
                part, whole = part + agreeing, whole + compared
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
    engine = "onnxruntime" if quantized is None else quantized.session.name
    return EvalResult(
        model=archive.name,
        target=options.target,
        engine=engine,
        header=_header(archive, quantized, engine),
        metrics=result.metrics,
        ci95=result.ci95,
        count=result.count,
        images_per_second=result.count / seconds if seconds > 0 else 0.0,
        precision="float32" if quantized is None else _precision(quantized.quantization),
        baseline=None if quantized is None else {"metrics": baseline.metrics, "ci95": baseline.ci95},
        degradation=None if quantized is None else tasks.degradation(baseline, result),
        agreement=None if quantized is None else 100 * part / whole,
        snr_db=None if quantized is None else snr.db,
        damaged=tuple(damaged),
    )


def batch_size(graph: Graph) -> int:
    """Images a batch: 64 small ones, fewer large ones."""
    values = max(int(np.prod(layer.shape)) for layer in graph.inputs)
    return max(1, min(_MOST_IMAGES_PER_BATCH, _VALUES_PER_BATCH // values))


@dataclasses.dataclass(frozen=True)
class Quantized:
    """The integer network of an archive with its host part, and the emulator that judges it."""

    graph: Graph
    params: Params
    quantization: Quantization
    session: IntegerSession
    host: HostSession

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs -> real network outputs."""
        integers = self.session.run(feeds)
        return self.host.run(
            {name: self.quantization.tensors[name].dequantize(q) for name, q in integers.items()}
        )

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raises UserError unless the engine's integers are the numpy emulator's."""
        if isinstance(self.session, NumpySession):
            return
        expected = NumpySession(self.graph, self.params, self.quantization).run(feeds)
        found = self.session.run(feeds)
        for name, integers in expected.items():
            if differing := int((integers != found[name]).sum()):
                raise UserError(
                    f"{self.graph.name}: {differing} of {integers.size} integers of {name} from the "
                    f"{self.session.name} engine differ from the numpy emulator's on this processor: use --engine numpy"
                )


def _quantized(archive: Archive, options: EvalOptions) -> Quantized:
    if archive.quantization is None:
        raise UserError(
            f"{archive.name}: no integers yet (state {archive.state}): run `mz optimize` and give its archive by --har"
        )
    graph, params = archive.working_graph, archive.working_params
    kind = NumpySession if options.engine == "numpy" else IntegerOrtSession
    session = kind(graph, params, archive.quantization)
    return Quantized(graph, params, archive.quantization, session, HostSession(graph, params))


def _header(archive: Archive, quantized: Quantized | None, engine: str) -> str:
    if quantized is None:
        return f"{archive.name} | float32 | {engine}"
    proof = "" if engine == "numpy" else " integer engine, first batch identical to numpy"
    return (
        f"{archive.name} | {archive.hw_arch} {_precision(quantized.quantization)} | emulator: {engine}{proof}"
    )


def _precision(quantization: Quantization) -> str:
    """`a8_w8`; where layers differ, the most common precision and a plus sign."""
    found = [str(quantization.layer_precision(name)) for name in quantization.weights]
    common = max(sorted(set(found)), key=found.count) if found else "a8"
    return common + ("+" if len(set(found)) > 1 else "")
