"""The same float network, calibration images and metric for mz and for other quantizers.

    python benchmarks/peers.py MODEL --data DATA [--calibrate 250] [--judge N] [--only NAME ...] [--json FILE]
    python benchmarks/peers.py MODEL --data DATA --calibrate 1024 --time 3     seconds, in turns, medians

Images of even-numbered classes calibrate and those of odd-numbered ones judge (without classes: every other image).
Peers get the parsed network in float ONNX, with batch normalization folded. NNCF is measured where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mz import data, flow, tasks, zoo
from mz.archive import Archive
from mz.engines.float_ort import FloatSession, HostSession, open_session
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_float import float_model
from mz.flow.evaluate import batch_size
from mz.flow.networks import configuration, only_input
from mz.flow.optimize import optimize_archive
from mz.flow.options import ModelRef, OptimizeOptions
from mz.optimize import device_input
from mz.report.statistics import SnrMeter
from mz.script import ScriptSettings

Runner = Callable[[np.ndarray], list[np.ndarray]]
"""Network inputs float32 [N, *shape] -> the network's outputs."""


@dataclass(frozen=True)
class Bench:
    """float_file: the parsed network as ONNX."""

    archive: Archive
    config: zoo.NetworkConfig
    task: tasks.Task
    calibration: data.Dataset
    judged: data.Dataset
    float_file: Path

    @property
    def feed(self) -> str:
        return only_input(self.archive.graph)

    def images(self, size: int) -> Iterator[np.ndarray]:
        """The calibration images, read and preprocessed anew."""
        for images, _ in data.batches(self.calibration, self.task.preprocess_batch, size):
            yield images

    def run_file(self, path: Path) -> Runner:
        session = open_session(onnx.load(path))
        names = list(self.archive.graph.outputs)
        return lambda images: session.run(names, {self.feed: images})

    def judge(self, run: Runner) -> dict[str, Any]:
        """Metric and its loss in points, agreement in %, SNR of the outputs in dB, against the float network."""
        reference = FloatSession(self.archive.graph, self.archive.params)
        ours, theirs, meter = self.task.evaluator(), self.task.evaluator(), SnrMeter()
        part = whole = 0.0
        size = min(16, batch_size(self.archive.graph))
        for images, about in data.batches(self.judged, self.task.preprocess_batch, size):
            expected, found = list(reference.run({self.feed: images}).values()), run(images)
            for one, other in zip(expected, found, strict=True):
                meter.update(one, other)
            same, of = self.task.agreement(ours.update(expected, about), theirs.update(found, about))
            part, whole = part + same, whole + of
        lost = tasks.degradation(ours.result(), theirs.result())
        metric = theirs.result().metric
        value = theirs.result().metrics.get(metric)
        row = {"metric": metric, "value": value, "agreement": 100 * part / whole, "snr_db": meter.db}
        return row | ({"lost": lost[metric]} if metric in lost else {})


def open_bench(model: str, folder: Path | None, calibrate: int, judge: int | None, scratch: Path) -> Bench:
    archive = flow.parse(ModelRef(model=model))
    config = configuration(archive, ModelRef(model=model))
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
    return Bench(archive, config, tasks.load(config), calibration, judged, path)


def mz_level(level: int) -> Callable[[Bench, Path], Runner]:
    def make(bench: Bench, scratch: Path) -> Runner:
        options = OptimizeOptions(optimization_level=level)
        result = optimize_archive(bench.archive, bench.config, ScriptSettings(), options, bench.calibration)
        found = result.archive
        assert found.quantization is not None
        graph, params, tensors = found.working_graph, found.working_params, found.quantization.tensors
        engine, host = IntegerOrtSession(graph, params, found.quantization), HostSession(graph, params)
        wanted = graph.accelerator_outputs()

        def run(images: np.ndarray) -> list[np.ndarray]:
            integers = engine.run({bench.feed: device_input(found.input_form, images)})
            restored = host.run({name: tensors[name].dequantize(integers[name]) for name in wanted})
            return [restored[name] for name in graph.outputs]

        return run

    return make


def onnxruntime_static(method: str = "MinMax", unsigned: bool = True, per_channel: bool = True) -> Any:
    def make(bench: Bench, scratch: Path) -> Runner:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.images = bench.images(1)

            def get_next(self) -> Mapping[str, np.ndarray] | None:
                images = next(self.images, None)
                return None if images is None else {bench.feed: images}

        kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
        quantize_static(
            bench.float_file,
            scratch / "static.onnx",
            Reader(),
            per_channel=per_channel,
            activation_type=kind,
            weight_type=kind,
            calibrate_method=CalibrationMethod[method],
        )
        return bench.run_file(scratch / "static.onnx")

    return make


def nncf_quantize(fast: bool) -> Callable[[Bench, Path], Runner]:
    def make(bench: Bench, scratch: Path) -> Runner:
        import nncf

        images = [{bench.feed: one} for one in bench.images(1)]
        quantized = nncf.quantize(
            onnx.load(bench.float_file),
            nncf.Dataset(images),
            subset_size=len(images),
            fast_bias_correction=fast,
        )
        onnx.save(quantized, scratch / "nncf.onnx")
        return bench.run_file(scratch / "nncf.onnx")

    return make


PEERS: dict[str, Callable[[Bench, Path], Runner]] = {
    "mz level 0": mz_level(0),
    "mz level 1": mz_level(1),
    "onnxruntime, default": onnxruntime_static(unsigned=False, per_channel=False),
    "onnxruntime, uint8 a channel, MinMax": onnxruntime_static("MinMax"),
    "onnxruntime, uint8 a channel, Entropy": onnxruntime_static("Entropy"),
    "onnxruntime, uint8 a channel, Percentile": onnxruntime_static("Percentile"),
    "NNCF, fast bias correction": nncf_quantize(fast=True),
    "NNCF, accurate bias correction": nncf_quantize(fast=False),
}
TIMED = ("mz level 1", "onnxruntime, default")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--calibrate", type=int, default=250)
    parser.add_argument("--judge", type=int)
    parser.add_argument("--only", nargs="+", choices=PEERS)
    parser.add_argument("--time", type=int, metavar="ROUNDS")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        bench = open_bench(asked.model, asked.data, asked.calibrate, asked.judge, scratch)
        print(
            f"{asked.model}: {len(bench.calibration)} images calibrate, {len(bench.judged)} judge", flush=True
        )
        if asked.time:
            rows = _times(bench, scratch, asked.time)
        else:
            for name in asked.only or PEERS:
                rows[name] = _row(name, bench, scratch)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, bench: Bench, scratch: Path) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        run = PEERS[name](bench, scratch)
    except ImportError as error:
        print(f"| {name} | not installed: {error} |", flush=True)
        return {"missing": str(error)}
    seconds = time.perf_counter() - began
    row = bench.judge(run) | {"seconds": round(seconds, 1)}
    value = "-" if row["value"] is None else f"{row['value']:.2f}"
    print(
        f"| {name} | {value} | {row['agreement']:.1f} % | {row['snr_db']:.1f} dB | {seconds:.0f} s |",
        flush=True,
    )
    return row


def _times(bench: Bench, scratch: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both, in turns, and the median of the ratios of turns that followed each other."""
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(rounds):
        for name in TIMED:
            began = time.perf_counter()
            PEERS[name](bench, scratch)
            seconds[name].append(time.perf_counter() - began)
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.1f} s |")
    print(f"median ratio {ratio:.2f}")
    return {"seconds": seconds, "ratio": ratio}


if __name__ == "__main__":
    main()
