"""A second recipe for the same network and images does not calibrate again, and ends with the same bytes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mz import archive as har
from mz import flow
from mz.flow import statistics_cache
from mz.flow.options import ModelRef, OptimizeOptions
from mz.flow.statistics_cache import load, save, statistics_path
from mz.graph import Activation, Graph, Input
from mz.quantize import TensorStatistics

MODEL = ModelRef(model="resnet8_fashion")
# Without equalization, which another recipe could change.
ASKED = OptimizeOptions(calib_count=48, optimization_level=-100)
GRAPH = Graph(
    "tiny",
    (
        Input(name="x", inputs=(), shape=(3,)),
        Activation(name="t", inputs=("x",), shape=(3,), function="tanh"),
    ),
    ("t",),
)
PARAMS = {"t": {"slopes": np.ones(3, np.float32)}}
IMAGES = {"x": np.zeros((2, 3), np.float32)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "statistics"


class Run:
    """One run of optimize: its archive's bytes, whether the calibration pass ran, and what was noted."""

    def __init__(self, folder: Path, options: OptimizeOptions) -> None:
        self.notes: list[str] = []
        self.passes: list[str] = []

        @contextmanager
        def progress(label: str, total: int | None, unit: str = "images") -> Iterator[object]:
            self.passes.append(label)
            yield lambda count: None

        result = flow.optimize(MODEL, options, progress=progress, note=self.notes.append)  # type: ignore[arg-type]
        har.write(result.archive, folder / "run.har")
        self.bytes = (folder / "run.har").read_bytes()

    @property
    def calibrated(self) -> bool:
        return "calibration" in self.passes


def test_another_recipe_takes_the_statistics_of_the_first(tmp_path: Path, folder: Path) -> None:
    without = Run(tmp_path, dataclasses.replace(ASKED, cache=False))
    assert without.calibrated
    assert not folder.exists()

    first = Run(tmp_path, dataclasses.replace(ASKED, precision="a8_w4"))
    assert first.calibrated
    assert len(list(folder.iterdir())) == 1

    second = Run(tmp_path, ASKED)
    assert not second.calibrated
    assert "calibration: statistics of 48 images from the cache" in second.notes
    assert second.bytes == without.bytes
    assert len(list(folder.iterdir())) == 1

    fewer = Run(tmp_path, dataclasses.replace(ASKED, calib_count=47))
    assert fewer.calibrated


def test_a_damaged_file_is_made_anew(tmp_path: Path, folder: Path) -> None:
    first = Run(tmp_path, ASKED)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    for content in (bytes(damaged), whole[:1000], b""):
        file.write_bytes(content)
        again = Run(tmp_path, ASKED)
        assert again.calibrated
        assert again.bytes == first.bytes
        assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MZ_CACHE", str(tmp_path / "file"))
    run = Run(tmp_path, ASKED)
    assert any("MZ_CACHE names another folder" in note for note in run.notes)
    assert run.calibrated


def test_a_file_belongs_to_one_network_and_one_pass() -> None:
    changed = {"t": {"slopes": np.nextafter(np.ones(3, np.float32), np.float32(2))}}
    other = dataclasses.replace(
        GRAPH, layers=(*GRAPH.layers[:1], dataclasses.replace(GRAPH["t"], function="abs"))
    )
    paths = {
        statistics_path(*network, settings)
        for network in ((GRAPH, PARAMS), (GRAPH, changed), (other, PARAMS))
        for settings in ({"images": "a"}, {"images": "b"}, {"images": "a", "batch_size": 8})
    }
    assert len(paths) == 9


def test_statistics_beside_other_images_are_none() -> None:
    path = statistics_path(GRAPH, PARAMS, {})
    assert load(path, IMAGES) is None
    save(path, {"x": _statistics()}, IMAGES)
    assert load(path, IMAGES) is not None
    assert load(path, {"x": IMAGES["x"] + np.float32(1e-6)}) is None


def test_the_folder_keeps_what_was_used_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [statistics_path(GRAPH, PARAMS, {"number": number}) for number in range(4)]
    save(paths[0], {"x": _statistics()}, IMAGES)
    monkeypatch.setattr(statistics_cache, "MOST_BYTES", 3 * paths[0].stat().st_size)
    for age, path in enumerate(paths[:3]):
        save(path, {"x": _statistics()}, IMAGES)
        os.utime(path, (1000 + age, 1000 + age))
    assert load(paths[0], IMAGES) is not None  # used, so no longer the oldest
    save(paths[3], {"x": _statistics()}, IMAGES)
    assert set(folder.iterdir()) == {paths[0], paths[2], paths[3]}
    monkeypatch.setattr(statistics_cache, "MOST_BYTES", 1)
    save(paths[1], {"x": _statistics()}, IMAGES)
    assert set(folder.iterdir()) == {paths[1]}


def _statistics() -> TensorStatistics:
    found = TensorStatistics()
    found.update(np.arange(6, dtype=np.float32))
    return found
