"""The compile stage: what it writes for which target, what it refuses, and that it writes nothing then."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from mz import archive as har
from mz import flow
from mz.compiler.packing import unpack
from mz.errors import UserError
from mz.flow.options import ModelRef, OptimizeOptions


@pytest.fixture(scope="module")
def mcu_har(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network for the microcontroller, in the plainest way."""
    options = OptimizeOptions(calib_count=32, optimization_level=-100, hw_arch="mcu", precision="a8_w4")
    path = tmp_path_factory.mktemp("mcu") / "resnet8_fashion.har"
    har.write(flow.optimize(ModelRef(model="resnet8_fashion"), options).archive, path)
    return path


def test_the_bundled_network_fits_the_microcontroller(mcu_har: Path, tmp_path: Path):
    result = flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out")
    memory, found = result.plan["memory_plan"], result.plan["estimate"]
    assert (
        memory["arena_bytes"] == memory["lower_bound"] <= memory["ram_limit_bytes"] == 512 * 1024 - 16 * 1024
    )
    assert memory["flash_bytes"] <= memory["flash_limit_bytes"] == 2048 * 1024 - 64 * 1024
    assert found["execution"] == "sequential" and found["contexts"] == []
    assert found["fps"] == pytest.approx(1000 / found["latency_ms"], rel=1e-3)
    stored = har.read(result.har).report["compile"]
    assert {key: stored[key] for key in ("memory_plan", "schedule", "estimate")} == json.loads(
        json.dumps(result.plan)
    )
    written = json.loads((tmp_path / "out" / "resnet8_fashion.json").read_text())
    assert written["estimate"] == stored["estimate"] and written["macs"] == result.summary["macs"]


def test_constants_are_an_artefact_that_unpacks_to_the_archives_integers(mcu_har: Path, tmp_path: Path):
    result = flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out")
    data = (tmp_path / "out" / "resnet8_fashion.weights.bin").read_bytes()
    index = json.loads((tmp_path / "out" / "resnet8_fashion.weights.json").read_text())
    arrays = unpack(data, index)
    quantization = result.archive.quantization
    assert quantization is not None
    for name, weight in quantization.weights.items():
        assert weight.bits == 4
        assert np.array_equal(arrays[name]["kernel"], weight.kernel)
        assert np.array_equal(arrays[name]["bias"], weight.bias)
    assert result.plan["memory_plan"]["flash_bytes"] == len(data)
    kernels = sum(weight.kernel.size for weight in quantization.weights.values())
    assert kernels / 2 < len(data) < kernels / 2 + 10_000  # two to a byte


def test_both_forms_are_tried_and_the_verdict_tells_which_is_exact(mcu_har: Path, tmp_path: Path):
    result = flow.compile_model(
        ModelRef(har=mcu_har), out=tmp_path / "out", emit=("onnx", "qdq"), verify=True
    )
    verdict = result.verify
    assert verdict is not None and verdict["images"] == 64
    exact, near = verdict["forms"]["onnx"], verdict["forms"]["qdq"]
    assert exact == {"exact": True, "integers": 640, "differing": 0}
    assert verdict["integers"] == 640 and verdict["differing"] == 0
    assert not near["exact"] and near["snr_db"] > 30 and near["equal_percent"] > 80


def test_forms_can_be_chosen_and_say_where_they_come_from(mcu_har: Path, tmp_path: Path):
    result = flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out", emit=("qdq", "qdq"))
    assert not (tmp_path / "out" / "resnet8_fashion.onnx").exists()
    assert result.archive.history[-1]["settings"]["targets"] == ["qdq"]
    model = onnx.load(tmp_path / "out" / "resnet8_fashion.qdq.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["mz_hw_arch"] == "mcu" and properties["mz_weight_scale"] == "per_channel"
    integers = har.read_members(result.har)["resnet8_fashion.q.npz"]
    assert properties["mz_integers_sha256"] == hashlib.sha256(integers).hexdigest()


def test_an_unknown_form_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mz.flow.compile.optimize", None)
    with pytest.raises(UserError, match="--emit tflite: hw_arch mz8 has the forms onnx, qdq, c"):
        flow.compile_model(ModelRef(model="resnet8_fashion"), out=tmp_path / "out", emit=("tflite",))
    assert not (tmp_path / "out").exists()


def test_a_network_too_large_leaves_nothing_behind(
    mcu_har: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mz import zoo

    small = zoo.load_hw_arch("mcu")
    small = zoo.HwArch(
        **{field: getattr(small, field) for field in small.__struct_fields__}
        | {"memory": type(small.memory)(external_bytes_per_second=1e8, ram_bytes=20_000, flash_bytes=100_000)}
    )
    monkeypatch.setattr("mz.zoo.load_hw_arch", lambda name: small)
    with pytest.raises(
        UserError, match=r"too large for hw_arch mcu: .*37,248 bytes of RAM .*20,000 are left"
    ) as told:
        flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out")
    assert "of flash and 100,000 are left" in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_target_of_the_users_own_is_named_at_each_command(mcu_har: Path, tmp_path: Path):
    own = tmp_path / "tiny.yaml"
    own.write_text("base: [hw_archs/mcu.yaml]\nname: tiny\nclock_mhz: 100\n")
    archive = dataclasses.replace(har.read(mcu_har), hw_arch="tiny")
    har.write(archive, tmp_path / "tiny.har")
    ref = ModelRef(har=tmp_path / "tiny.har")
    with pytest.raises(
        UserError, match="was made for hw_arch tiny, a file that is not in the zoo: name it by --hw-arch"
    ):
        flow.compile_model(ref, out=tmp_path / "out")
    result = flow.compile_model(ref, hw_arch=str(own), out=tmp_path / "out", emit=("qdq",))
    assert result.plan["estimate"]["clock_mhz"] == 100


def test_a_file_in_the_place_of_the_folder(mcu_har: Path, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out: cannot be made"):
        flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_differing_integer_is_refused_and_named(
    mcu_har: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mz.flow import verify

    def wrong(archive: har.Archive, files: dict[str, bytes]) -> verify.Trial:
        trial = verify._onnx_trial(archive, files)
        assert isinstance(trial, verify.ExactTrial)
        run = trial.run
        return dataclasses.replace(trial, run=lambda feeds: {k: v ^ 1 for k, v in run(feeds).items()})

    monkeypatch.setitem(verify.TRIALS, "onnx", wrong)
    with pytest.raises(UserError, match=r"resnet8_fashion\.onnx: 640 of 640 output integers differ"):
        flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out", emit=("onnx",), verify=True)
    assert not (tmp_path / "out").exists()


def test_a_target_that_runs_c_is_checked_against_the_arena_in_that_code(
    mcu_har: Path, tmp_path: Path
) -> None:
    result = flow.compile_model(ModelRef(har=mcu_har), out=tmp_path / "out")
    header = (tmp_path / "out" / "c" / "resnet8_fashion.h").read_text()
    assert f"ARENA_BYTES {result.plan['memory_plan']['arena_bytes']}" in header
