"""Runs compiled files on real images against the numpy emulator: equal to the integer, or, in QDQ form, how near."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mz import data, tasks
from mz.archive import Archive
from mz.emulator import NumpySession
from mz.engines.artefact import QdqSession
from mz.engines.compare import Comparison
from mz.errors import UserError
from mz.flow.compiled import c_session, onnx_session
from mz.flow.networks import configuration, only_input
from mz.flow.options import ModelRef, Progress
from mz.graph import TensorQuant
from mz.optimize import device_input, own_pixels
from mz.report.statistics import SnrMeter

VERIFY_IMAGES = 64
_BATCH = 8
Arrays = Mapping[str, np.ndarray]


class Trial(Protocol):
    """A file under test: it sees what goes in and what the emulator gave, and says in the end what it found."""

    def update(self, feeds: Arrays, expected: Arrays) -> None: ...

    def verdict(self) -> dict[str, Any]: ...


def verify(
    ref: ModelRef,
    archive: Archive,
    artefacts: Mapping[str, Mapping[str, bytes]],
    data_path: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """The verdict over all files, and by form; artefacts: files by form, then by path.

    Raises UserError for a file that must be exact and differs in one integer.
    """
    assert archive.quantization is not None
    graph = archive.working_graph
    judge = NumpySession(graph, archive.working_params, archive.quantization)
    trials = {form: TRIALS[form](archive, files) for form, files in artefacts.items() if form in TRIALS}
    feed, images = only_input(graph), 0
    with progress("verify", VERIFY_IMAGES) as advance:
        for batch in islice(_images(ref, archive, data_path), -(-VERIFY_IMAGES // _BATCH)):
            feeds = {feed: device_input(archive.input_form, batch)}
            expected = judge.run(feeds)
            for trial in trials.values():
                trial.update(feeds, expected)
            images += len(batch)
            advance(len(batch))
    forms = {form: trial.verdict() for form, trial in trials.items()}
    return {
        "images": images,
        "integers": sum(found.get("integers", 0) for found in forms.values()),
        "differing": sum(found.get("differing", 0) for found in forms.values()),
        "against": "numpy emulator",
        "forms": forms,
    }


@dataclass
class ExactTrial:
    """An artefact whose integers must be the emulator's. run: its integers by output layer."""

    name: str
    run: Callable[[Arrays], Arrays]

    def __post_init__(self) -> None:
        self._comparison = Comparison()

    def update(self, feeds: Arrays, expected: Arrays) -> None:
        self._comparison.update(expected, self.run(feeds))

    def verdict(self) -> dict[str, Any]:
        found = self._comparison
        if found.differing:
            raise UserError(
                f"{self.name}: {found.differing} of {found.integers} output integers differ from the "
                f"numpy emulator's on this processor, so nothing was written; first {found.first_difference}"
            )
        return {"exact": True, "integers": found.integers, "differing": 0}


@dataclass
class NearTrial:
    """An artefact with its own rounding: its real outputs against the emulator's, dequantized."""

    tensors: Mapping[str, TensorQuant]
    run: Callable[[Arrays], Arrays]

    def __post_init__(self) -> None:
        self._meters: dict[str, SnrMeter] = {}
        self._steps = self._equal = self._values = 0

    def update(self, feeds: Arrays, expected: Arrays) -> None:
        found = self.run(feeds)
        for name, integers in expected.items():
            quant = self.tensors[name]
            real = quant.dequantize(integers)
            self._meters.setdefault(name, SnrMeter()).update(real, found[name])
            steps = np.abs(np.rint((found[name] - real) / quant.scale))
            self._steps = max(self._steps, int(steps.max(initial=0)))
            self._equal += int(np.count_nonzero(steps == 0))
            self._values += steps.size

    def verdict(self) -> dict[str, Any]:
        """snr_db: of the worst output; null where all are equal."""
        worst = min((meter.db for meter in self._meters.values()), default=float("inf"))
        return {
            "exact": False,
            "snr_db": round(worst, 2) if np.isfinite(worst) else None,
            "equal_percent": round(100 * self._equal / max(self._values, 1), 3),
            "largest_steps": self._steps,
        }


def _onnx_trial(archive: Archive, files: Mapping[str, bytes]) -> Trial:
    ((path, content),) = files.items()
    return ExactTrial(path, onnx_session(archive, content).run)


def _qdq_trial(archive: Archive, files: Mapping[str, bytes]) -> Trial:
    assert archive.quantization is not None
    ((_, content),) = files.items()
    outputs = archive.working_graph.accelerator_outputs()
    session = QdqSession(content, outputs, own_pixels(archive.input_form))
    return NearTrial(archive.quantization.tensors, session.run)


def _c_trial(archive: Archive, files: Mapping[str, bytes]) -> Trial:
    return ExactTrial(f"{archive.name}.c", c_session(archive, files).run)


TRIALS: dict[str, Callable[[Archive, Mapping[str, bytes]], Trial]] = {
    "onnx": _onnx_trial,
    "qdq": _qdq_trial,
    "c": _c_trial,
}
"""By form: how its files are tried."""


def _images(ref: ModelRef, archive: Archive, data_path: Path | None) -> Iterator[np.ndarray]:
    config = configuration(archive, ref)
    dataset = data.open_evaluation(config, data_path)
    dataset = data.subset(dataset, min(VERIFY_IMAGES, len(dataset)))
    task = tasks.load(config)
    for images, _ in data.batches(dataset, task.preprocess_batch, _BATCH):
        yield images
