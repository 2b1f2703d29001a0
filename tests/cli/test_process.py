"""mz as a process of its own: exit codes, streams, Ctrl-C, and what `--help` imports and costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name("fake_flow.py")


def run(*args: str, cwd: Path, fake: bool = False) -> subprocess.CompletedProcess[str]:
    program = [str(FAKE)] if fake else ["-m", "mz"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("MZ_DEBUG", None)
    command = [sys.executable, *program, *args]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "args", [["--help"], ["eval", "--help"], ["optimize", "--help"], ["har", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from mz.cli import cli\n"
        "try:\n    cli(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'PIL', 'torch', 'yaml', 'msgspec', 'tqdm', 'mz.flow'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"


def test_help_answers_at_once() -> None:
    def seconds(*command: str) -> float:
        """Processor time, which a busy machine hardly changes; nothing here waits for anything else."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        before = os.times()
        subprocess.run(
            [sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        after = os.times()
        used = after.children_user + after.children_system
        return used - before.children_user - before.children_system

    numpy = min(seconds("-c", "import numpy") for _ in range(5))
    assert min(seconds("-m", "mz", "--help") for _ in range(5)) < 0.8 * numpy


def test_streams_and_exit_codes(tmp_path: Path) -> None:
    done = run("parse", "net", cwd=tmp_path, fake=True)
    assert (done.returncode, done.stderr) == (0, "a note\n")
    assert done.stdout.endswith("saved net.har\n")
    done = run("eval", "net", "--target", "emulator", "--json", "-", cwd=tmp_path, fake=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["metrics"] == {"top1": 93.41}
    assert "|" in done.stderr
    assert "%|" not in done.stderr
    done = run("parse", "wrong", cwd=tmp_path, fake=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mz: error: wrong: no such network; did you mean 'net'?\n"
    done = run("parse", "broken", cwd=tmp_path, fake=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    done = run("har", "diff", "net.har", "net.har", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "identical\n", "")


def test_interruption(tmp_path: Path) -> None:
    done = run("optimize", "interrupted", cwd=tmp_path, fake=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "mz: interrupted")
    assert not list(tmp_path.iterdir())


def test_a_truncated_archive_is_one_line(tmp_path: Path) -> None:
    run("parse", "net", cwd=tmp_path, fake=True)
    whole = (tmp_path / "net.har").read_bytes()
    (tmp_path / "net.har").write_bytes(whole[: len(whole) // 3])
    done = run("har", "info", "net.har", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("mz: error: net.har: ")
    assert "member net." in done.stderr
