"""Every command through click's runner: what it asks of the flow, what it prints and where, its JSON and exit code."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import fake_flow
import pytest
from click.testing import CliRunner, Result

import mz
from mz.archive import diff, read, write
from mz.cli import cli
from mz.cli.console import Console, plain, quantity, table
from mz.cli.group import COMMANDS


@pytest.fixture(autouse=True)
def flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    fake_flow.install(lambda *a: monkeypatch.setattr(*a, raising=False))
    fake_flow.ASKED.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MZ_DEBUG", raising=False)
    return fake_flow.ASKED


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def succeed(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args: str) -> str:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert re.fullmatch(r"mz: error: .*\n", result.stderr), result.stderr
    return result.stderr.removeprefix("mz: error: ").strip()


def test_parse(flow: list[tuple[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    out = succeed(
        "parse",
        "net",
        "--ckpt",
        "net.onnx",
        "--start-node-names",
        "a,b",
        "--start-node-names",
        "c",
        "--hw-arch",
        "mz8",
    )
    (_, (ref, hw_arch)) = flow[0]
    assert (ref.model, ref.ckpt, ref.start_nodes, ref.end_nodes) == (
        "net",
        Path("net.onnx"),
        ("a", "b", "c"),
        (),
    )
    assert hw_arch == "mz8"
    assert out.splitlines() == [
        "net: 2 layers, 10 parameters, 8 MACs an image",
        "net: on the accelerator 100.0 % of the layers, 100.0 % of the MACs",
        "saved net.har",
    ]
    assert diff(read("net.har"), fake_flow.archive()) == []
    succeed("parse", "net", "--har-out", "other.har")
    assert sorted(os.listdir()) == ["net.har", "net.onnx", "other.har"]


def test_optimize(flow: list[tuple[str, Any]]) -> None:
    args = ["--precision", "a8_w4", "--calib-count", "64", "--seed", "7", "--optimization-level", "-100"]
    out = succeed("optimize", "net", *args, "--json", "out.json")
    (_, (_, options)) = flow[0]
    assert (options.precision, options.calib_count, options.seed, options.optimization_level) == (
        "a8_w4",
        64,
        7,
        -100,
    )
    assert options.script is None
    assert options.batch_size is None
    assert not options.allow_fallback
    assert out.splitlines() == [
        "  step          requested  applied  note",
        "  quantization  yes        yes      a8_w4",
        "  QFT           no         no       PyTorch is not installed",
        "saved net.har",
    ]
    assert read("net.har").state == "quantized"
    data = json.loads(Path("out.json").read_text())
    assert data["recipe"] == {"precision": "a8_w4", "range": None}
    assert data["har"] == "net.har"
    assert data["steps"][0] == {
        "name": "quantization",
        "requested": True,
        "optional": False,
        "applied": True,
        "note": "a8_w4",
    }


def test_optimize_does_not_fall_back_unasked(tmp_path: Path) -> None:
    result = run("optimize", "net", "--optimization-level", "2")
    assert result.exit_code == 2
    assert "QFT           yes        no " in result.stdout
    assert result.stderr.splitlines()[-1].startswith(
        "mz: error: the recipe could not be honoured (QFT); nothing was saved"
    )
    assert not list(tmp_path.iterdir())
    succeed("optimize", "net", "--optimization-level", "2", "--allow-fallback")
    assert Path("net.har").exists()


def test_a_search_tells_what_it_tried_and_by_its_exit_code_whether_one_holds(
    flow: list[tuple[str, Any]], tmp_path: Path
) -> None:
    asked = (
        "optimize",
        "net",
        "--max-degradation",
        "0.5",
        "--metric",
        "top1",
        "--budget",
        "30m",
        "--json",
        "out.json",
    )
    out = succeed(*asked)
    ((name, (_, _, goal, har)),) = flow
    assert (name, goal.max_degradation, goal.metric, goal.budget_seconds, har) == (
        "search",
        0.5,
        "top1",
        1800.0,
        None,
    )
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == [
        "level",
        "0",
        "a8_w8",
        "0.10",
        "-0.20",
        "..",
        "0.40",
        "0.08",
        "MB",
        "1.00",
        "3",
        "s",
        "holds",
    ]
    assert out.splitlines()[2].endswith("left out: PyTorch is not installed")
    assert out.splitlines()[-1] == "saved net.har"
    data = json.loads(Path("out.json").read_text())
    assert data["holds"] and data["best"] == "level 0" and data["tried"][0]["lost"]["top1"]["high"] == 0.4
    result = run("optimize", "net", "--max-degradation", "0.3")
    assert result.exit_code == 1
    assert "best, does not hold" in result.stdout


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0)])
def test_a_budget(text: str, seconds: float, flow: list[tuple[str, Any]]) -> None:
    succeed("optimize", "net", "--max-degradation", "1", "--budget", text)
    assert flow[0][1][2].budget_seconds == seconds


def test_a_search_refuses_what_it_cannot_read() -> None:
    for text in ("30", "m", "-1h", "0s", "1d"):
        assert "90s" in refused("optimize", "net", "--max-degradation", "1", "--budget", text)
    assert "--max-degradation" in refused("optimize", "net", "--budget", "30m")


def test_analyze(flow: list[tuple[str, Any]], tmp_path: Path) -> None:
    Path("net.har").touch()
    out = succeed("analyze", "--har", "net.har", "--script", "m.alls", "--goal", "6", "--json", "out.json")
    assert flow[0][1][1] == {"data_path": None, "data_count": None, "goal_db": 6.0}
    row = out.splitlines()[2].split()
    assert row == [
        "fc1",
        "dense",
        "a8_w4",
        "75.0",
        "%",
        "20.0",
        "21.0",
        "-",
        "18.2",
        "0.50",
        "1",
        "%",
        "25",
        "%",
    ]
    assert "    fc1: weights of 8 bits" in out.splitlines()
    assert Path("m.alls").read_text() == "# a script\n"
    assert read("net.har").state == "quantized"
    assert json.loads(Path("out.json").read_text())["layers"][0]["layer"] == "fc1"
    assert "--har" in refused("analyze", "net")


def test_eval_full_precision(flow: list[tuple[str, Any]]) -> None:
    out = succeed(
        "eval",
        "net",
        "--data-count",
        "100",
        "--batch-size",
        "8",
        "--engine",
        "numpy",
        "--visualize",
        "pictures",
    )
    (_, (_, options)) = flow[0]
    assert (options.target, options.data_count, options.batch_size) == ("full_precision", 100, 8)
    assert (options.engine, options.visualize) == ("numpy", Path("pictures"))
    assert out.splitlines() == [
        "net | mz8 a8_w8",
        "                  top-1   95 % interval",
        "  full precision  93.41  92.90 .. 93.88",
        "  10000 images, 1234 images/s",
    ]


def test_eval_emulator_and_json() -> None:
    write(fake_flow.archive("quantized"), "net.har")
    result = run("eval", "net", "--target", "emulator", "--har", "net.har", "--json", "-")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert set(data) == {
        *("model", "target", "engine", "precision", "metrics", "count", "ci95", "images_per_second"),
        *("baseline", "degradation", "agreement", "agreement_ci95", "snr_db"),
    }
    assert data["degradation"] == {"top1": {"value": 0.04, "low": -0.02, "high": 0.1}}
    assert data["ci95"] == {"top1": [92.9, 93.88]}
    assert data["snr_db"] is None
    assert result.stderr.splitlines() == [
        "a note",
        "net | mz8 a8_w8",
        "                    top-1   95 % interval",
        "  full precision    93.45  92.90 .. 93.90",
        "  8-bit (emulator)  93.41  92.90 .. 93.88",
        "  degradation        0.04   -0.02 .. 0.10  (paired)",
        "  agreement with float 99.50 %, output SNR inf dB",
        "  10000 images, 1234 images/s",
    ]
    result = run("eval", "net", "--json", "-", "--quiet")
    assert result.stderr == ""
    assert set(json.loads(result.stdout)) & {"baseline", "degradation", "snr_db"} == set()


def test_compile(flow: list[tuple[str, Any]]) -> None:
    out = succeed("compile", "net", "--out", "files", "--verify", "--json", "out.json", "--emit", "qdq")
    assert flow[0][1][2:] == (Path("files"), True, ("qdq",))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "macs 1,234,567",
        "arena bytes 41,000 (bound 40,000, ratio 1.025)",
        "constant bytes 312,200, flash limit 2,031,616",
        "contexts 2, line buffers of at most 1,200 bytes",
        "estimated images/s 275, 1,401 at batch 8",
        "estimated latency 3.636 ms",
        "estimated utilization 25.6 %",
        "bottleneck conv1, conv2",
        *("verify images 64", "verify differences 0"),
        *("saved files/net.onnx", "saved files/net.json", "saved files/net_compiled.har"),
    ]
    data = json.loads(Path("out.json").read_text())
    assert data["files"][:2] == ["files/net.onnx", "files/net.json"]
    assert data["verify"]["differences"] == 0
    assert data["estimate"]["fps"] == 275.04


def test_info_and_list() -> None:
    lines = succeed("list").splitlines()
    assert lines[0].split() == [
        "name",
        "task",
        "input",
        "parameters",
        "MACs",
        "float",
        "accuracy",
        "licence",
        "source",
    ]
    assert lines[1].split()[:8] == ["net", "classification", "1x32x32", "77.00", "k", "12.50", "M", "top-1"]
    assert lines[2].split() == ["other", "classification", *"------"]
    assert [entry["name"] for entry in json.loads(succeed("list", "--json", "-"))] == ["net", "other"]
    empty = run("list", "zzz*")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "no network's name matches 'zzz*'\n")
    about = succeed("info", "net")
    assert "float accuracy  top-1 93.45\n" in about
    assert "licence         MIT\n" in about
    assert "accelerator     97.5 % of the layers, 100.0 % of the MACs\n" in about
    assert "host, first     softmax1 (Softmax out: Softmax runs in float)\n" in about
    assert json.loads(succeed("info", "net", "--json", "-"))["macs"] == 12500000


def test_har(tmp_path: Path) -> None:
    write(fake_flow.archive("quantized"), "a.har")
    write(fake_flow.archive("parsed"), "b.har")
    out = succeed("har", "info", "a.har")
    assert out.startswith("net: quantized for mz8\n10 parameters, 8 MACs an image\n")
    assert "  fc1           dense       2          10     8  a8_w4\n" in out
    assert "  1. parse: seed=0\n" in out
    assert "net.q.npz" in out
    assert json.loads(succeed("har", "info", "a.har", "--json", "-"))["layers"][1]["precision"] == "a8_w4"
    paths = succeed("har", "extract", "a.har", "--out", "members").split()
    assert "members/net.q.npz" in paths
    assert all(Path(path).is_file() for path in paths)
    assert succeed("har", "diff", "a.har", "a.har") == "identical\n"
    result = run("har", "diff", "a.har", "b.har")
    assert result.exit_code == 1
    assert "quantization: quantization: only in the first\n" in result.stdout
    Path("b.har").write_bytes(Path("a.har").read_bytes()[:5000])
    assert re.match(r"b\.har: .*member net\.", refused("har", "diff", "a.har", "b.har"))
    refused("har", "extract", "b.har", "--out", "nothing")
    assert not Path("nothing").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["eval"], "name a MODEL of the zoo, or give --ckpt, --yaml or --har (see mz eval --help)"),
        (["eval", "net", "--nonsense"], "No such option"),
        (["evl", "net"], "No such command 'evl'"),
        (
            ["eval", "net", "--har", "none.har"],
            "Invalid value for '--har': Path 'none.har' does not exist. (see mz eval --help)",
        ),
        (
            ["eval", "net", "--batch-size", "0"],
            "Invalid value for '--batch-size': 0 is not in the range x>=1.",
        ),
        (["eval", "net", "--target", "chip"], "Invalid value for '--target': 'chip' is not one of"),
        (["optimize", "net", "-v", "-q"], "--verbose and --quiet exclude each other"),
        (["parse", "wrong"], "wrong: no such network; did you mean 'net'?"),
        (
            ["parse", "net", "-q", "--har-out", "no/folder.har"],
            "Invalid value for '--har-out': cannot write no/folder.har: folder 'no' does not exist",
        ),
        (
            ["info", "net", "--json", "no/folder.json"],
            "Invalid value for '--json': cannot write no/folder.json: folder 'no' does not exist",
        ),
    ],
)
def test_user_errors_are_one_line(args: list[str], message: str) -> None:
    assert refused(*args).startswith(message)


def test_our_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("parse", "broken")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.startswith("mz: internal error: ZeroDivisionError: a defect in two lines\n")
    assert "please report it" in result.stderr
    assert "Traceback" in run("parse", "broken", "-v").stderr
    assert "Traceback" not in run("parse", "wrong", "-v").stderr
    monkeypatch.setenv("MZ_DEBUG", "1")
    assert "Traceback" in run("parse", "wrong").stderr


def test_quiet_says_results_only_and_verbose_details() -> None:
    assert run("parse", "net", "-v").stderr == "a note\n  a detail\n"
    assert run("parse", "net").stderr == "a note\n"
    result = run("parse", "net", "--quiet")
    assert result.stderr == ""
    assert "saved net.har" in result.stdout


def test_help_and_version() -> None:
    assert succeed("--version") == f"mz, version {mz.__version__}\n"
    assert run().exit_code == 2
    assert all(f"\n  {name} " in succeed("--help") for name in COMMANDS)
    for name in COMMANDS:
        assert succeed(name, "--help").startswith(f"Usage: mz {name} ")


def test_every_option_has_a_help_text() -> None:
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    for command in commands:
        assert command is not None
        assert command.help
        assert command.short_help
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (command.name, option.name)


def test_completion() -> None:
    def complete(words: str) -> list[str]:
        environment = {
            "_MZ_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        return [
            line.partition(",")[2] for line in CliRunner().invoke(cli, env=environment).stdout.splitlines()
        ]

    assert complete("mz op") == ["optimize"]
    assert "resnet8_fashion" in complete("mz eval res")
    assert complete("mz eval nothing_like_this") == [""]
    assert "mz8" in complete("mz compile net --hw-arch mz")


def test_plain_data() -> None:
    import numpy as np

    data = {
        1: np.float32(0.5),
        "a": (np.arange(2), Path("x")),
        "b": [float("nan"), -float("inf"), None, True],
    }
    assert plain(data) == {"1": 0.5, "a": [[0, 1], "x"], "b": [None, None, None, True]}


def test_tables_and_quantities() -> None:
    assert table(["a", "bb"], [["ccc", "1"], ["d", "22"]], "<>") == "  a    bb\n  ccc   1\n  d    22"
    assert [quantity(n) for n in (None, 0, 999, 1000, 2.5e6, 3.21e9)] == [
        "-",
        "0",
        "999",
        "1.00 k",
        "2.50 M",
        "3.21 G",
    ]


def test_progress_is_shown_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(console: Console) -> str:
        with console.progress("images", 10) as advance:
            advance(10)
        return capsys.readouterr().err

    assert show(Console()) == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert "images/s" in show(Console())
    assert show(Console(quiet=True)) == ""
