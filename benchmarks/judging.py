"""A network of the zoo with images to calibrate on and others to judge on: what several benchmarks stand on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mz import data, tasks, zoo
from mz.archive import Archive
from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.flow.calibration import CalibrationSet, open_set
from mz.flow.candidate import Quantized
from mz.flow.evaluate import batch_size
from mz.flow.networks import configuration, only_input, parse
from mz.flow.options import ModelRef
from mz.graph import Graph, Params, Quantization
from mz.report.statistics import SnrMeter
from zoo import DATA_OF

BUNDLED = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")


def networks(folder: Path | None) -> list[str]:
    """The bundled networks, and those of the zoo whose data set `folder` holds."""
    return [*BUNDLED, *(name for name, (part, _) in DATA_OF.items() if folder and (folder / part).is_dir())]


@dataclass(frozen=True)
class Bench:
    """calibration: every second image of the network's data set (the bundled networks have a set of their own).
    judged: of the others. metric: the one that counts.
    """

    archive: Archive
    config: zoo.NetworkConfig
    task: tasks.Task
    calibration: CalibrationSet
    judged: data.Dataset
    metric: str

    @cached_property
    def expected(self) -> list[tuple[np.ndarray, Any, list[np.ndarray]]]:
        """The judged images batch by batch, what is known of them, and the parsed network's outputs."""
        graph = self.archive.graph
        reference, feed = FloatSession(graph, self.archive.params), only_input(graph)
        found = []
        for images, about in data.batches(self.judged, self.task.preprocess_batch, batch_size(graph)):
            outputs = reference.run({feed: images})
            found.append((images, about, [outputs[name] for name in graph.outputs]))
        return found

    def judge(self, graph: Graph, params: Params, quantization: Quantization | None = None) -> dict[str, Any]:
        """The metric in %, its loss against the parsed network in points with the paired 95 % interval, agreement with
        it in %, and the signal-to-noise ratio of the outputs in dB, all on the judged images.
        """
        tried, feed = _runner(graph, params, quantization), only_input(self.archive.graph)
        float_eval, other_eval, snr = self.task.evaluator(), self.task.evaluator(), SnrMeter()
        part = whole = 0.0
        for images, about, ours in self.expected:
            found = tried({feed: images})
            theirs = [found[name] for name in graph.outputs]
            for one, other in zip(ours, theirs, strict=True):
                snr.update(one, other)
            answers = float_eval.update(ours, about), other_eval.update(theirs, about)
            agreeing, compared = self.task.agreement(*answers)
            part, whole = part + agreeing.sum(), whole + compared.sum()
        baseline, result = float_eval.result(), other_eval.result()
        lost = tasks.degradation(baseline, result)[self.metric]
        return {
            "images": result.count,
            "metric": self.metric,
            "float": round(baseline.metrics[self.metric], 3),
            "value": round(result.metrics[self.metric], 3),
            "lost": [round(lost[key], 3) for key in ("value", "low", "high")],
            "agreement": round(100 * part / whole, 3),
            "snr_db": round(min(snr.db, 200.0), 2),
        }


def _runner(graph: Graph, params: Params, quantization: Quantization | None) -> Any:
    if quantization is None:
        return FloatSession(graph, params).run
    engine = IntegerOrtSession(graph, params, quantization)
    integers = Quantized(graph, params, quantization, engine, HostSession(graph, params))
    return lambda feeds: integers.restore(engine.run(feeds))


def open_bench(name: str, folder: Path | None, calibrate: int, judge: int, *, whole: bool = False) -> Bench:
    """At most `calibrate` and `judge` images, evenly spaced over their halves.

    whole: nothing is learnt from the calibration images, so that all images may be judged.
    """
    archive = parse(ModelRef(model=name))
    config = configuration(archive, ModelRef(model=name))
    task = tasks.load(config)
    if name in BUNDLED:
        seen, unseen = data.open_calibration(config), data.open_evaluation(config)
    else:
        assert folder is not None, f"{name}: name the folder of data sets by --data"
        images = data.open_evaluation(config, folder / DATA_OF[name][0])
        places = np.arange(len(images))
        seen = images.take(places[::2])
        unseen = images if whole else images.take(places[1::2])
    calibration = open_set(
        data.subset(seen, min(calibrate, len(seen))), task, only_input(archive.graph), batch_size=16
    )
    judged = data.subset(unseen, min(judge, len(unseen)))
    metric = str(config.evaluation.metric or next(iter(task.metric_names)))  # type: ignore[attr-defined]
    return Bench(archive, config, task, calibration, judged, metric)
