"""`mz profile` as it is called: what it writes, and that trouble leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.report.networks import every_state, measured_archive

from mz import archive as har
from mz.cli import cli


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["profile", *map(str, args)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    har.write(measured_archive(), tmp_path / "deep_compiled.har")
    return tmp_path


def test_the_page_bears_the_archives_name(folder: Path) -> None:
    result = call("deep_compiled.har")
    assert result.exit_code == 0 and result.stdout == "saved deep_compiled.html\n"
    assert (folder / "deep_compiled.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("state", ["parsed", "fp_optimized", "quantized", "compiled"])
def test_every_state(folder: Path, state: str) -> None:
    har.write(every_state()[state], folder / "net.har")
    assert call("net.har", "--out", "page.html").exit_code == 0
    assert (folder / "page.html").stat().st_size > 10_000


def test_text_and_json_write_no_page_and_agree(folder: Path) -> None:
    result = call("deep_compiled.har", "--text", "--json", "out.json")
    assert result.exit_code == 0
    about = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert f"MACs an image              {about['totals']['macs']:,}" in result.stdout
    assert not list(folder.glob("*.html"))
    alone = call("deep_compiled.har", "--json", "-")
    assert json.loads(alone.stdout) == about
    assert call("deep_compiled.har", "--text", "--out", "page.html").exit_code == 0
    assert (folder / "page.html").exists()


def test_trouble_is_one_line_and_leaves_nothing(folder: Path) -> None:
    whole = (folder / "deep_compiled.har").read_bytes()
    (folder / "cut.har").write_bytes(whole[: len(whole) // 2])
    (folder / "edited.har").write_bytes(whole.replace(b"photographs", b"photograms!"))
    (folder / "other.har").write_text("no archive")
    (folder / "taken.html").mkdir()
    before = sorted(folder.iterdir())
    for arguments in (
        ["absent.har"],
        ["cut.har"],
        ["edited.har"],
        ["other.har"],
        ["deep_compiled.har", "--out", "no/such/folder/page.html"],
        ["deep_compiled.har", "--out", "taken.html"],
        ["deep_compiled.har", "--json", "no/such/folder/out.json"],
    ):
        result = call(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("mz: error: ") and len(result.stderr.splitlines()) == 1
        assert sorted(folder.iterdir()) == before
