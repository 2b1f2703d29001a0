"""A profile's figures are the archive's: MACs, bytes, histograms, accuracy; and what is not there is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.report.networks import every_state, measured_archive

from mz import archive as har
from mz import flow
from mz.cli import cli
from mz.compiler import summarize
from mz.flow.accuracy import still_true, with_accuracy
from mz.flow.options import EvalOptions, EvalResult, ModelRef
from mz.flow.profile import profile
from mz.report.text import text


@pytest.mark.parametrize("state", ["parsed", "fp_optimized", "quantized", "compiled"])
def test_every_state_has_its_layers_and_figures(state: str) -> None:
    archive = every_state()[state]
    about = profile(archive)
    json.dumps(about, allow_nan=False)
    graph = archive.working_graph
    assert [row["name"] for row in about["layers"]] == [layer.name for layer in graph.layers]
    assert about["totals"]["macs"] == sum(row["macs"] for row in about["layers"]) == graph.coverage().macs
    assert about["totals"]["parameters"] == sum(row["parameters"] for row in about["layers"])
    assert about["network"]["state"] == state
    for row in about["layers"]:
        if "weights" not in row:
            continue
        if archive.quantization is None:
            kernel = archive.working_params[row["name"]]["kernel"]
            assert row["weights"]["unit"] == "float" and row["weight_bytes"] == 4 * kernel.size
        else:
            kernel = archive.quantization.weights[row["name"]].kernel
            assert row["weights"]["unit"] == "integer"
        assert sum(row["weights"]["histogram"]["counts"]) == row["weights"]["count"] == kernel.size
        assert (row["weights"]["low"], row["weights"]["high"]) == (kernel.min(), kernel.max())


def test_bytes_are_the_compilers() -> None:
    archive = every_state()["quantized"]
    assert archive.quantization is not None
    summary = summarize(archive.working_graph, archive.quantization)
    about = profile(archive)
    for key in ("weight_bytes", "bias_bytes"):
        assert about["totals"][key] == summary[key] == sum(row.get(key, 0) for row in about["layers"])
    assert about["totals"]["activation_peak_bytes"] == summary["activation_peak_bytes"]


def test_sections_that_are_not_there_are_left_out_and_named() -> None:
    parsed, full = profile(every_state()["parsed"], "my.har"), profile(measured_archive())
    for key in ("accuracy", "noise", "steps", "memory_plan", "estimate", "verify"):
        assert key not in parsed
        (line,) = (line for line in parsed["missing"] if line["section"] == key)
        assert "--har my.har" in line["command"]
    assert {line["section"] for line in full["missing"]} == {"estimate"}


def test_measurements_stand_with_their_layers() -> None:
    archive = measured_archive()
    rows = {row["name"]: row for row in profile(archive)["layers"]}
    assert rows["conv3"]["snr_db"] == archive.report["optimize"]["noise"]["layers"]["conv3"]
    assert rows["conv3"]["saturation"] == {"total": 1000, "low": 3, "high": 4}
    assert rows["conv3"]["activations"]["counts"] == [5, 0, 7]
    tensor = archive.quantization and archive.quantization.tensors["conv3"]
    assert tensor and (rows["conv3"]["range"]["low"], rows["conv3"]["range"]["high"]) == tensor.real_range


def test_a_bundled_network_optimized_and_measured(resnet8_har: Path, tmp_path: Path) -> None:
    archive = har.read(resnet8_har)
    about = profile(archive)
    for row in about["layers"]:
        tensor = row["activations"]
        values = sum(tensor["counts"])
        assert values == pytest.approx(128 * np.prod(row["shape"]), rel=0.01)
        assert (
            tensor["start"]
            <= tensor["low"]
            <= tensor["high"]
            <= tensor["start"] + tensor["width"] * len(tensor["counts"])
        )
        assert row["snr_db"] > 10
    result = flow.evaluate(
        ModelRef(har=resnet8_har), EvalOptions(target="emulator", data_count=64, saturation=True)
    )
    assert result.archive is not None
    har.write(result.archive, tmp_path / "measured.har")
    (entry,) = flow.profile_file(tmp_path / "measured.har")["accuracy"]
    assert entry["metrics"] == result.metrics and entry["count"] == 64
    assert entry["ci95"]["top1"] == pytest.approx(result.ci95["top1"])
    assert "images_per_second" not in entry


def test_accuracy_is_kept_by_target_until_the_integers_are_made_anew() -> None:
    archive = every_state()["parsed"]
    archive.report.pop("accuracy")

    def measured(target: str, top1: float) -> EvalResult:
        return EvalResult("net", target, "ort", "", {"top1": top1}, {"top1": (top1 - 1, top1 + 1)}, 10, 99.0)

    for target, top1 in (("full_precision", 90.0), ("emulator", 88.0), ("emulator", 89.0)):
        archive = with_accuracy(archive, measured(target, top1), "set")
    assert {name: entry["metrics"]["top1"] for name, entry in archive.report["accuracy"].items()} == {
        "full_precision": 90.0,
        "emulator": 89.0,
    }
    assert list(still_true(archive.report)["accuracy"]) == ["full_precision"]
    assert still_true({"parse": 1}) == {"parse": 1}


def test_what_is_no_figure_is_left_out() -> None:
    """A dead layer has no SNR, equal outputs an infinite one, and a metric may lack its interval."""
    archive = measured_archive()
    nan = float("nan")
    archive.report["optimize"]["noise"]["layers"]["conv3"] = nan
    archive.report["optimize"]["noise"]["output_db"] = float("inf")
    entry = archive.report["accuracy"]["emulator"]
    entry |= {"snr_db": float("inf"), "ci95": {"top1": [nan, nan]}}
    entry["degradation"] = {"top1": {"value": 0.5, "low": nan, "high": nan}}
    archive.params["conv4"]["kernel"][0, 0, 0, 0] = np.nan
    about = profile(dataclasses.replace(archive, state="parsed", quantization=None, artefacts={}))
    rows = {row["name"]: row for row in about["layers"]}
    assert "snr_db" not in rows["conv3"] and "output_db" not in about["noise"]
    assert rows["conv4"]["weights"]["not_finite"] == 1
    (measured,) = about["accuracy"]
    assert "snr_db" not in measured and measured["ci95"] == {}
    assert measured["degradation"] == {"top1": {"value": 0.5}}
    assert "top-1" in text(about)
    json.dumps(about, allow_nan=False)


def test_eval_saves_what_the_profile_shows(resnet8_har: Path, tmp_path: Path) -> None:
    saved = tmp_path / "measured.har"
    measure = ["eval", "--har", resnet8_har, "--target", "emulator", "--data-count", 32, "--har-out", saved]
    result = CliRunner().invoke(cli, [str(argument) for argument in measure])
    assert result.exit_code == 0 and f"saved {saved}" in result.stdout
    shown = CliRunner().invoke(cli, ["profile", str(saved), "--text"])
    assert "32 images of" in shown.stdout
    assert har.read(resnet8_har).report.get("accuracy") is None
