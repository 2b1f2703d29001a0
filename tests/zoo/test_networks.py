from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from mz import zoo
from mz.errors import UserError
from mz.zoo import schema

BUNDLED = ["mobilenet_v2_fashion", "mobilenet_v3_fashion", "resnet8_fashion"]
CLASSIFICATION = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "mobilenet_v1_0.25",
    *BUNDLED[:2],
    "resnet20_cifar10",
    "resnet32_cifar10",
    "resnet44_cifar10",
    "resnet56_cifar10",
    BUNDLED[2],
]


def test_names_are_listed_without_heavy_imports() -> None:
    code = (
        "import sys, mz.zoo; print(mz.zoo.network_names('*_fashion'));"
        "print([m for m in ('numpy', 'onnx', 'yaml', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(BUNDLED), "[]"]


def test_glob_selects_names() -> None:
    assert zoo.network_names("*_v3_*") == ["mobilenet_v3_fashion"]
    assert zoo.network_names("nothing*") == []


@pytest.mark.parametrize("name", zoo.network_names())
def test_every_network_loads_and_is_complete(name: str) -> None:
    config = zoo.load_network(name)
    assert config.network.name == name
    assert config.paths.source is not None
    assert config.info.description and config.info.licence and config.info.source
    zoo.script_path(config)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_networks_have_their_figures(name: str) -> None:
    config = zoo.load_network(name)
    known = config.info
    assert config.network.task == "classification"
    assert known.parameters and known.macs and known.full_precision.top1 and known.full_precision.count
    assert config.evaluation.dataset is not None
    assert len(config.evaluation.dataset.class_names) in (10, 1000)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_file_is_the_one_that_its_configuration_names(name: str) -> None:
    path = zoo.model_path(zoo.load_network(name))
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("name", zoo.network_names())
def test_dict_round_trip(name: str) -> None:
    config = zoo.load_network(name)
    plain = zoo.to_dict(config)
    assert zoo.from_dict(plain, "x") == config
    assert zoo.from_dict(yaml.safe_load(yaml.safe_dump(plain)), "x") == config
    assert zoo.from_dict(json.loads(json.dumps(plain)), "x") == config


def test_stored_configuration_names_its_origin() -> None:
    plain = zoo.to_dict(zoo.load_network("resnet8_fashion"))
    plain["preprocessing"]["meen"] = plain["preprocessing"].pop("mean")
    with pytest.raises(UserError, match=r"^x\.har: preprocessing\.meen: unknown key; did you mean 'mean'\?$"):
        zoo.from_dict(plain, "x.har")


def test_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        zoo.load_network("resnet8_fashion").network.name = "other"  # type: ignore[misc]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown network 'resnet8_fashon'; did you mean 'resnet8_fashion'"):
        zoo.load_network("resnet8_fashon")
    with pytest.raises(UserError, match="unknown network 'zz'; there are efficientnet_lite0, "):
        zoo.load_network("zz")
    with pytest.raises(
        UserError, match="unknown hw_arch 'mz9'; did you mean 'mz8'.*; there are cpu, mcu, mz8"
    ):
        zoo.load_hw_arch("mz9")


def test_hw_archs() -> None:
    assert zoo.hw_arch_names() == ["cpu", "mcu", "mz8", "mz8_layerwise", "mz8l"]
    by_channel, by_layer, half = map(zoo.load_hw_arch, ("mz8", "mz8_layerwise", "mz8l"))
    assert (by_channel.clusters, by_channel.memory.on_chip_bytes) == (
        2 * half.clusters,
        2 * half.memory.on_chip_bytes,
    )
    assert by_channel.weight_scale == "per_channel" and by_layer.weight_scale == "per_layer"
    assert by_channel.default_precision == by_layer.default_precision == "a8_w8"
    assert by_layer.weight_bits == by_channel.weight_bits == (4, 8, 16)


def source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, **changes: object
) -> zoo.NetworkConfig:
    """A configuration whose source is a file in a folder of its own."""
    (tmp_path / "net.onnx").write_bytes(content)
    monkeypatch.setattr("mz.zoo.networks.bundled_root", lambda: tmp_path)
    plain = zoo.to_dict(zoo.load_network("resnet8_fashion"))
    right = {
        "kind": "bundled",
        "file": "net.onnx",
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # of b"abc"
    }
    plain["paths"]["source"] = right | changes
    return zoo.from_dict(plain, "test")


def test_model_path_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.model_path(source(tmp_path, monkeypatch, b"abc")) == tmp_path / "net.onnx"


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (b"abd", {}, "is not the file that its configuration names: 3 bytes"),
        (b"ab", {}, "2 bytes, .* wanted 3 bytes"),
        (b"abc", {"bytes": 4}, "wanted 4 bytes"),
        (b"abc", {"file": "other.onnx"}, "bundled file other.onnx is missing"),
    ],
)
def test_model_path_refuses_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, changes: dict[str, object], message: str
) -> None:
    config = source(tmp_path, monkeypatch, content, **changes)
    with pytest.raises(UserError, match=message):
        zoo.model_path(config)


def test_model_path_without_a_source() -> None:
    config = msgspec.structs.replace(zoo.load_network("resnet8_fashion"), paths=schema.Paths())
    with pytest.raises(UserError, match="no paths.source .* --ckpt"):
        zoo.model_path(config)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("base: [networks/resnet8_fashion.yaml]\npaths: {alls_script: gone.alls}\n")
    with pytest.raises(UserError, match=r"paths\.alls_script: 'gone\.alls' is not in cfg/scripts"):
        zoo.script_path(zoo.load_network(file))
