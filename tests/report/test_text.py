"""The text holds the figures of the JSON."""

from __future__ import annotations

import re

import pytest
from tests.report.networks import every_state, measured_archive

from mz.flow.profile import profile
from mz.report.text import text


def _cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("state", ["parsed", "fp_optimized", "quantized", "compiled", "measured"])
def test_the_figures_are_those_of_the_json(state: str) -> None:
    about = profile(measured_archive() if state == "measured" else every_state()[state])
    lines = text(about).splitlines()
    totals = dict(_cells(line) for line in lines if len(_cells(line)) == 2)
    assert totals["MACs an image"] == f"{about['totals']['macs']:,}"
    assert totals["parameters"] == f"{about['totals']['parameters']:,}"
    for row in about["layers"]:
        (line,) = (line for line in lines if _cells(line)[:2] == [str(row["index"]), row["name"]])
        cells = _cells(line)
        assert "x".join(map(str, row["shape"])) in cells
        for key in ("macs", "weight_bytes", "activation_bytes"):
            assert not row.get(key) or f"{row[key]:,}" in cells
        if "snr_db" in row:
            assert f"{row['snr_db']:.1f}" in cells


def test_accuracy_steps_memory_and_what_is_missing() -> None:
    shown = text(profile(measured_archive()))
    assert re.search(r"top-1 +integers, a8_w8 +89\.50 +87\.40 \.\. 91\.50", shown)
    assert re.search(r"top-1 +degradation +0\.50 +-0\.10 \.\. 1\.10", shown)
    assert re.search(r"equalization +yes +no +brings nothing here", shown)
    assert "arena bytes 6,144" in shown
    assert re.search(r"conv3 +0 +2,048 +3 \.\. 5", shown)
    assert "0 of 640 output integers differ" in shown
    assert re.search(r"cycles, latency and utilization +mz compile --har deep.har", shown)
