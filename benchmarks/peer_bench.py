"""A network with images that calibrate and others that judge, the same for mz and for every other quantizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from mz import data, flow, tasks, zoo
from mz.archive import Archive
from mz.engines.float_ort import FloatSession
from mz.engines.lower_float import float_model
from mz.flow.evaluate import batch_size
from mz.flow.networks import configuration, only_input
from mz.flow.options import ModelRef
from mz.report.statistics import SnrMeter

Runner = Callable[[np.ndarray], list[np.ndarray]]
"""Network inputs float32 [N, *shape] -> the network's outputs."""


@dataclass(frozen=True)
class Bench:
    """original: the ONNX that the network was parsed from. float_file: the parsed network as ONNX, batch
    normalization folded, batch axis open.
    """

    archive: Archive
    config: zoo.NetworkConfig
    task: tasks.Task
    calibration: data.Dataset
    judged: data.Dataset
    original: Path
    float_file: Path

    @property
    def feed(self) -> str:
        return only_input(self.archive.graph)

    @property
    def names(self) -> list[str]:
        return list(self.archive.graph.outputs)

    def images(self, size: int) -> Iterator[np.ndarray]:
        """The calibration images, read and preprocessed anew."""
        for images, _ in data.batches(self.calibration, self.task.preprocess_batch, size):
            yield images

    def run_file(self, path: Path) -> Runner:
        """Node by node, in float between quantized values: fused kernels saturate on processors without VNNI."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options)
        return lambda images: session.run(self.names, {self.feed: images})

    @cached_property
    def expected(self) -> list[tuple[np.ndarray, Any, list[np.ndarray]]]:
        """The judged images batch by batch, what is known of them, and the float network's outputs."""
        reference = FloatSession(self.archive.graph, self.archive.params)
        size = min(16, batch_size(self.archive.graph))
        return [
            (images, about, list(reference.run({self.feed: images}).values()))
            for images, about in data.batches(self.judged, self.task.preprocess_batch, size)
        ]

    def judge(self, run: Runner) -> dict[str, Any]:
        """Metric and its loss in points, agreement in %, SNR of the outputs in dB (None: no difference), against the
        float network.
        """
        ours, theirs, meter = self.task.evaluator(), self.task.evaluator(), SnrMeter()
        part = whole = 0.0
        for images, about, expected in self.expected:
            found = run(images)
            for one, other in zip(expected, found, strict=True):
                meter.update(one, other)
            same, of = self.task.agreement(ours.update(expected, about), theirs.update(found, about))
            part, whole = part + same.sum(), whole + of.sum()
        lost = tasks.degradation(ours.result(), theirs.result())
        metric = theirs.result().metric
        value = theirs.result().metrics.get(metric)
        snr = meter.db if np.isfinite(meter.db) else None
        row = {"metric": metric, "value": value, "agreement": 100 * part / whole, "snr_db": snr}
        return row | ({"lost": lost[metric]} if metric in lost else {})


def open_bench(
    model: str, ckpt: Path | None, folder: Path | None, calibrate: int, judge: int | None, scratch: Path
) -> Bench:
    """ckpt: stands in for the network's source. folder: a data set that is split into images that calibrate, those of
    even-numbered classes, and images that judge; None: the network's own two sets.
    """
    ref = ModelRef(model=model, ckpt=ckpt)
    archive = flow.parse(ref)
    config = configuration(archive, ref)
    if folder is None:
        calibration, judged = data.open_calibration(config), data.open_evaluation(config)
    else:
        whole = data.open_evaluation(config, folder)
        classes = whole.labels if isinstance(whole.labels, np.ndarray) else np.arange(len(whole))
        calibration, judged = (whole.take(np.flatnonzero(classes % 2 == rest)) for rest in (0, 1))
    calibration = data.subset(calibration, min(calibrate, len(calibration)))
    judged = data.subset(judged, min(judge or len(judged), len(judged)))
    path = scratch / "float.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(float_model(archive.graph, archive.params)), path)
    original = ckpt or zoo.model_path(config)
    return Bench(archive, config, tasks.load(config), calibration, judged, original, path)
