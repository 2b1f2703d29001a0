"""The C target through the stages: compiled, evaluated, compared, and what happens where it cannot be."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mz import archive as har
from mz import flow
from mz.cli import cli
from mz.errors import UserError
from mz.flow.options import EvalOptions, ModelRef

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@pytest.fixture(autouse=True)
def quickly_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-O1")


@pytest.fixture(scope="module")
def compiled(resnet8_har: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compiled") / "out"
    return flow.compile_model(ModelRef(har=resnet8_har), out=out, emit=("c",)).har


def write_changed(source: Path, target: Path, **changes: object) -> Path:
    har.write(dataclasses.replace(har.read(source), **changes), target)  # type: ignore[arg-type]
    return target


def test_the_c_code_evaluates_like_the_emulator(compiled: Path) -> None:
    ref = ModelRef(har=compiled)
    found = flow.evaluate(ref, EvalOptions(target="native", data_count=200))
    expected = flow.evaluate(ref, EvalOptions(target="emulator", data_count=200))
    assert found.engine == "native" and "C code, first batch identical to numpy" in found.header
    assert (found.metrics, found.agreement, found.snr_db) == (
        expected.metrics,
        expected.agreement,
        expected.snr_db,
    )


def test_the_command_takes_the_compiled_folder(compiled: Path) -> None:
    command = [
        "eval",
        "--target",
        "native",
        "--har",
        str(compiled.parent),
        "--data-count",
        "20",
        "--json",
        "-",
    ]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["target"], data["engine"], data["count"]) == ("native", "native", 20)
    assert "8-bit (native)" in result.stderr


def test_verify_runs_the_c_code(resnet8_har: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = flow.compile_model(ModelRef(har=resnet8_har), out=out, emit=("c",), verify=True)
    assert result.verify is not None
    assert result.verify["forms"]["c"] == {"exact": True, "integers": 640, "differing": 0}
    assert (out / "c" / "resnet8_fashion.c").is_file() and not (out / "resnet8_fashion.onnx").exists()
    assert har.read(result.har).artefacts["c/main.c"] == (out / "c" / "main.c").read_bytes()


def test_a_missing_compiler_leaves_nothing_behind(
    resnet8_har: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["compile", "--har", str(resnet8_har), "--out", str(out), "--verify"])
    assert result.exit_code == 2
    assert "needs a C compiler" in result.stderr and "--emit onnx" in result.stderr
    assert not out.exists()
    result = CliRunner().invoke(cli, ["eval", "--target", "native", "--har", str(compiled)])
    assert result.exit_code == 2
    assert "needs a C compiler" in result.stderr and "--target emulator" in result.stderr
    assert flow.compile_model(ModelRef(har=resnet8_har), out=out, emit=("c",)).verify is None


def test_a_compiler_that_fails(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UserError, match="false cannot build the native target"):
        flow.evaluate(ModelRef(har=compiled), EvalOptions(target="native", data_count=2))


def test_archives_without_c_code(resnet8_har: Path) -> None:
    with pytest.raises(UserError, match=r"holds no C code: run `mz compile --emit c`"):
        flow.evaluate(ModelRef(har=resnet8_har), EvalOptions(target="native", data_count=2))


def test_options_that_the_c_code_cannot_take(compiled: Path, tmp_path: Path) -> None:
    for options in ({"dump_layers": tmp_path / "dump"}, {"engine": "numpy"}):
        with pytest.raises(UserError, match="leave --engine and --dump-layers out"):
            flow.evaluate(ModelRef(har=compiled), EvalOptions(target="native", **options))


def test_code_that_was_tampered_with_is_found(compiled: Path, tmp_path: Path) -> None:
    archive = har.read(compiled)
    key = "c/resnet8_fashion_constants.c"
    text = archive.artefacts[key]
    row = text.index(b'    "\\', text.index(b"conv5_weights")) + len(b'    "')
    other = b"\\001" if text[row : row + 4] != b"\\001" else b"\\002"
    changed = text[:row] + other + text[row + 4 :]
    path = write_changed(compiled, tmp_path / "changed.har", artefacts=archive.artefacts | {key: changed})
    with pytest.raises(UserError, match="from the native engine differ from the numpy emulator's"):
        flow.evaluate(ModelRef(har=path), EvalOptions(target="native", data_count=64))


def test_every_layer_in_c_is_numpys(resnet8_har: Path) -> None:
    result = flow.diff(resnet8_har, engines=("numpy", "native"), data_count=2)
    assert result.identical
    assert len(result.layers) == sum(not layer.host for layer in har.read(resnet8_har).working_graph.layers)
