"""`mz optimize --dry-run`: the recipe in force is a script that reads back, and no image is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mz import data, flow
from mz.cli import cli
from mz.errors import UserError
from mz.flow import ModelRef, OptimizeOptions

REF = ModelRef(model="resnet8_fashion")


def test_the_recipe_reads_back_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "batches", lambda *args, **kwargs: pytest.fail("an image was read"))
    script, refused = flow.recipe_in_force(REF, OptimizeOptions(compression_level=2, calib_count=64))
    assert not refused
    for line in (
        "optimization_level=1",
        "compression_level=2",
        "calibset_size=64",
        "equalization, policy=allowed",
    ):
        assert line in script
    path = tmp_path / "again.alls"
    path.write_text(script)
    assert flow.recipe_in_force(REF, OptimizeOptions(script=path))[0] == script


def test_a_recipe_of_the_users_shows_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.alls"
    path.write_text("pre_quantization_optimization(pruning, policy=enabled, ratio=0.3)\n")
    script, _ = flow.recipe_in_force(REF, OptimizeOptions(script=path))
    assert "pruning, policy=enabled, ratio=0.3, budget=macs, importance=reconstruction" in script
    path.write_text("pre_quantization_optimization(pruning, policy=enabled, ratio=3)\n")
    with pytest.raises(UserError, match=r"mine\.alls:1:"):
        flow.recipe_in_force(REF, OptimizeOptions(script=path))


def test_the_command_prints_it_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["optimize", "resnet8_fashion", "--dry-run", "--json", "dry.json"])
    assert result.exit_code == 0, result.output
    assert "model_optimization_flavor(" in result.output
    assert json.loads(Path("dry.json").read_text())["refused"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["dry.json"]
