"""The analysis on a real network: its report, and a script that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from mz import archive as har
from mz import flow
from mz.errors import UserError
from mz.flow.options import EvalOptions, ModelRef, OptimizeOptions


@pytest.fixture(scope="module")
def found(resnet8_har: Path) -> flow.AnalyzeResult:
    return flow.analyze(ModelRef(har=resnet8_har), data_count=16, goal_db=6.0)


def test_every_layer_is_ranked_by_what_it_adds(found: flow.AnalyzeResult) -> None:
    rows = found.report["layers"]
    graph = found.archive.working_graph
    assert sorted(row["layer"] for row in rows) == sorted(
        layer.name for layer in graph.layers if not layer.host
    )
    shares = [row["share"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    # Alone, weights that make good what earlier layers do are noise, and in the network they take noise away.
    assert -3 < found.report["output_db"] - found.report["predicted_db"] < 6
    assert found.archive.report["analysis"] == found.report
    assert found.archive.report["optimize"]


def test_the_script_runs_as_it_is_and_lowers_the_noise(found: flow.AnalyzeResult, tmp_path: Path) -> None:
    assert found.mends
    assert found.gain_db >= 6
    path = tmp_path / "mended.alls"
    path.write_text(found.script)
    archive = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(script=path)).archive
    before, after = (_unseen_db(one, tmp_path) for one in (found.archive, archive))
    assert after > before + 2


def _unseen_db(archive: har.Archive, folder: Path) -> float:
    """Output SNR on test images; that on a few calibration images moves by a decibel with the rounding of one layer."""
    har.write(archive, folder / "judged.har")
    judged = flow.evaluate(
        ModelRef(har=folder / "judged.har"), EvalOptions(target="emulator", data_count=1000)
    )
    assert judged.snr_db is not None
    return judged.snr_db


def test_an_archive_without_integers_has_nothing_to_analyze(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mz optimize"):
        flow.analyze(ModelRef(model="resnet8_fashion"))
