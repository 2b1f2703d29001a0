"""The search on a real network: what it tries, where it stops, and that a killed one ends like an unbroken one."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mz import archive as har
from mz import flow, zoo
from mz.errors import UserError
from mz.flow.options import ModelRef, OptimizeOptions, SearchGoal, SearchResult
from mz.flow.search_state import state_path
from mz.script import ScriptSettings

search = importlib.import_module("mz.flow.search")  # mz.flow has its function under this name
RESNET = ModelRef(model="resnet8_fashion")
OPTIONS = OptimizeOptions(calib_count=16)
GOAL = SearchGoal(max_degradation=0.0, data_count=100)
MZ8 = zoo.load_hw_arch("mz8")


LEVELS = ("level 0", "level 1")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trials of equalization, which take most of the time and are not what is tested."""
    settings = ScriptSettings(disabled=["equalization"])
    monkeypatch.setattr(search, "script_settings", lambda *a: settings)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_only(monkeypatch, LEVELS)


def keep_only(monkeypatch: pytest.MonkeyPatch, kept: Sequence[str]) -> None:
    """A ladder of these recipes alone."""
    whole = search.ladder
    monkeypatch.setattr(search, "ladder", lambda *a: [rung for rung in whole(*a) if rung.name in kept])


def names(*arguments: Any) -> list[str]:
    return [rung.name for rung in search.ladder(*arguments)]


def run(path: Path, goal: SearchGoal = GOAL) -> SearchResult:
    return flow.search(RESNET, OPTIONS, goal, path)


def test_the_ladder_begins_where_the_user_says() -> None:
    every = names(MZ8, OptimizeOptions(), ScriptSettings())
    assert every[:3] == ["level 0", "level 1", "other ranges"]
    assert every[-2:] == ["all a16_w8", "all a16_w16"]
    assert names(MZ8, OptimizeOptions(optimization_level=1), ScriptSettings()) == every[1:]
    assert names(MZ8, OptimizeOptions(), ScriptSettings(optimization_level=2))[:2] == [
        "level 2",
        "other ranges",
    ]
    assert names(MZ8, OptimizeOptions(precision="a8_w4"), ScriptSettings())[-2:] == [
        "all a8_w8",
        "all a16_w16",
    ]
    narrow = msgspec.structs.replace(MZ8, activation_bits=(8,), weight_bits=(8,))
    assert not [name for name in names(narrow, OptimizeOptions(), ScriptSettings()) if name.startswith("all")]


def test_it_stops_at_the_first_recipe_that_holds(tmp_path: Path) -> None:
    path = tmp_path / "out.har"
    result = run(path, SearchGoal(max_degradation=50.0, data_count=100))
    assert result.holds
    assert [row.recipe for row in result.tried] == ["level 0"]
    assert result.metric == "top1"
    archive = har.read(path)
    assert archive.report["search"]["best"] == "level 0"
    assert archive.report["optimize"]
    assert result.tried[0].weight_bytes > 70_000
    assert result.tried[0].bit_operations == 64 * archive.graph.coverage().accelerator_macs


@pytest.mark.parametrize("kept", [LEVELS, pytest.param((*LEVELS, "mixed, 6 dB"), marks=pytest.mark.slow)])
def test_a_killed_search_goes_on_and_ends_with_the_same_bytes(
    kept: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(monkeypatch, kept)
    unbroken = run(tmp_path / "a.har")
    assert not unbroken.holds
    assert [row.recipe for row in unbroken.tried] == list(kept)
    judged = []
    evaluate = search.evaluate_archive

    def killed(*args: Any, **kwargs: Any) -> Any:
        judged.append(args)
        if len(judged) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(search, "evaluate_archive", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b.har")
    assert har.read(tmp_path / "b.har").state == "quantized"
    resumed = run(tmp_path / "b.har")
    assert len(judged) == 1 + len(kept), "the first recipe was not judged again"
    assert [row.lost for row in resumed.tried] == [row.lost for row in unbroken.tried]
    assert (tmp_path / "b.har").read_bytes() == (tmp_path / "a.har").read_bytes()

    run(tmp_path / "b.har", SearchGoal(max_degradation=50.0, data_count=100))
    assert len(judged) == 1 + len(kept), "another question about the same recipes"
    flow.search(RESNET, OPTIONS, SearchGoal(50.0, data_count=90), tmp_path / "b.har")
    assert len(judged) == 2 + len(kept), "other images are another search"


@pytest.mark.usefixtures("short")
def test_a_damaged_state_is_begun_anew_and_a_lost_archive_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out.har"
    goal = SearchGoal(max_degradation=50.0, data_count=100)
    run(path, goal)
    content = path.read_bytes()
    path.unlink()
    run(path, goal)
    assert path.read_bytes() == content
    state_path(path).write_text('{"format": 1, "key"')
    assert run(path, goal).holds


@pytest.mark.usefixtures("short")
def test_what_a_budget_leaves_no_time_for_is_left_out_and_said(tmp_path: Path) -> None:
    result = run(tmp_path / "out.har", dataclasses.replace(GOAL, budget_seconds=0.001))
    assert result.tried[0].lost
    assert [row.note.partition(":")[0] for row in result.tried[1:]] == ["left out"]
    assert not result.holds


def test_a_metric_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--metric mAP.*top1"):
        run(tmp_path / "out.har", dataclasses.replace(GOAL, metric="mAP"))


@pytest.mark.usefixtures("short")
def test_agreement_decides_where_it_is_asked_for(tmp_path: Path) -> None:
    result = run(tmp_path / "out.har", SearchGoal(10.0, metric="agreement", data_count=100))
    lost = result.tried[0].lost["agreement"]
    assert result.metric == "agreement"
    assert 0 <= lost["low"] <= lost["value"] <= lost["high"]
