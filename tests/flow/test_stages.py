"""The stages on a real bundled network and real labelled images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mz import archive as har
from mz import data, flow, tasks, zoo
from mz.emulator import NumpySession
from mz.errors import UserError
from mz.flow.options import EvalOptions, ModelRef, OptimizeOptions
from mz.optimize import device_input

NETWORKS = ("resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion")


@pytest.mark.parametrize("network", NETWORKS)
def test_float_accuracy_is_the_one_in_the_zoo(network: str) -> None:
    result = flow.evaluate(ModelRef(model=network), EvalOptions())
    known = zoo.load_network(network).info.full_precision
    assert result.count == known.count == 10_000
    assert known.top1 is not None
    assert known.top5 is not None
    assert abs(result.metrics["top1"] - known.top1) <= 0.05
    assert abs(result.metrics["top5"] - known.top5) <= 0.05
    low, high = result.ci95["top1"]
    assert low < result.metrics["top1"] < high


def test_emulator_reports_what_was_lost(resnet8_har: Path) -> None:
    options = EvalOptions(target="emulator", data_count=500)
    result = flow.evaluate(ModelRef(har=resnet8_har), options)
    assert result.baseline is not None
    assert result.degradation is not None
    assert result.agreement is not None
    assert result.snr_db is not None
    lost = result.degradation["top1"]
    assert lost["value"] == pytest.approx(result.baseline["metrics"]["top1"] - result.metrics["top1"])
    assert lost["low"] <= lost["value"] <= lost["high"]
    assert lost["value"] <= 1.0
    assert result.agreement >= 98.0
    assert result.snr_db >= 25.0
    assert result.engine == "onnxruntime"
    assert "identical to numpy" in result.header


def test_engines_agree_on_everything(resnet8_har: Path) -> None:
    ref = ModelRef(har=resnet8_har)
    by_ort = flow.evaluate(ref, EvalOptions(target="emulator", data_count=96, engine="ort"))
    by_numpy = flow.evaluate(ref, EvalOptions(target="emulator", data_count=96, engine="numpy"))
    assert by_ort.metrics == by_numpy.metrics
    assert by_ort.snr_db == by_numpy.snr_db


def test_results_do_not_depend_on_the_batch_size(resnet8_har: Path) -> None:
    ref = ModelRef(har=resnet8_har)
    results = [
        flow.evaluate(ref, EvalOptions(target="emulator", data_count=50, batch_size=size))
        for size in (1, 7, 50)
    ]
    assert len({result.metrics["top1"] for result in results}) == 1
    assert results[0].snr_db == pytest.approx(results[2].snr_db)


def test_optimizing_twice_gives_the_same_bytes(resnet8_har: Path, tmp_path: Path) -> None:
    again = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(calib_count=128))
    har.write(again.archive, tmp_path / "again.har")
    assert (tmp_path / "again.har").read_bytes() == resnet8_har.read_bytes()


def test_the_script_in_force_alone_repeats_the_run(tmp_path: Path) -> None:
    asked = OptimizeOptions(
        calib_count=64, precision="a8_w4", compression_level=2, optimization_level=0, batch_size=16
    )
    first = flow.optimize(ModelRef(model="resnet8_fashion"), asked).archive
    script = tmp_path / "again.alls"
    script.write_text(first.script)
    second = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(script=script)).archive
    differences = [d for d in har.diff(first, second) if d.part not in ("history", "report", "metadata")]
    assert first.quantization is not None
    assert not differences


@pytest.mark.parametrize("precision", ["a4_w4", "a8_w16", "a16_w4", "a16_w8", "a16_w16"])
def test_every_precision_runs_and_both_engines_agree(precision: str) -> None:
    options = OptimizeOptions(calib_count=32, precision=precision, optimization_level=0)
    archive = flow.optimize(ModelRef(model="resnet8_fashion"), options).archive
    assert archive.quantization is not None
    emulator = NumpySession(archive.working_graph, archive.working_params, archive.quantization)
    images = {name: device_input(archive.input_form, x) for name, x in _images("resnet8_fashion", 8).items()}
    expected = emulator.run(images)
    from mz.engines.integer_ort import IntegerOrtSession

    found = IntegerOrtSession(archive.working_graph, archive.working_params, archive.quantization).run(images)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_more_bits_lose_less() -> None:
    noise = {}
    for precision in ("a8_w4", "a8_w8", "a16_w16"):
        options = OptimizeOptions(calib_count=32, precision=precision)
        archive = flow.optimize(ModelRef(model="resnet8_fashion"), options).archive
        noise[precision] = archive.report["optimize"]["noise"]["output_db"]
    assert noise["a8_w4"] < noise["a8_w8"] < noise["a16_w16"]
    assert noise["a16_w16"] >= 60


def test_a_share_of_the_weights_goes_to_16_bits_where_it_helps(tmp_path: Path) -> None:
    script = tmp_path / "sixteen.alls"
    script.write_text("model_optimization_config(compression_params, auto_16bit_weights_ratio=0.1)\n")
    options = OptimizeOptions(calib_count=32, optimization_level=0, precision="a16_w8", script=script)
    archive = flow.optimize(ModelRef(model="resnet8_fashion"), options).archive
    assert archive.quantization is not None
    weights = archive.quantization.weights
    wide = {name for name, weight in weights.items() if weight.bits == 16}
    assert (
        0
        < sum(weights[name].kernel.size for name in wide)
        <= 0.1 * sum(w.kernel.size for w in weights.values())
    )
    plain = flow.optimize(
        ModelRef(model="resnet8_fashion"), dataclasses.replace(options, script=None)
    ).archive
    noise = [a.report["optimize"]["noise"]["output_db"] for a in (plain, archive)]
    assert noise[1] > noise[0]


def test_one_weight_scale_a_layer_where_the_arch_says_so() -> None:
    options = OptimizeOptions(calib_count=32, hw_arch="mz8_layerwise", optimization_level=0)
    archive = flow.optimize(ModelRef(model="resnet8_fashion"), options).archive
    assert archive.hw_arch == "mz8_layerwise"
    assert archive.quantization is not None
    assert all(len(set(w.scale.tolist())) == 1 for w in archive.quantization.weights.values())


def test_a_level_that_cannot_be_had_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(optimization_level=2))
    assert result.archive.state == "parsed"
    (step,) = result.steps
    assert step.requested
    assert not step.applied
    allowed = OptimizeOptions(optimization_level=2, allow_fallback=True, calib_count=16)
    result = flow.optimize(ModelRef(model="resnet8_fashion"), allowed)
    assert result.archive.state == "quantized"
    assert [step.name for step in result.steps if step.missed] == ["QFT"]


def test_compiled_onnx_gives_the_emulators_integers(resnet8_har: Path, tmp_path: Path) -> None:
    result = flow.compile_model(
        ModelRef(har=resnet8_har), out=tmp_path / "out", emit=("onnx", "qdq"), verify=True
    )
    assert result.verify is not None
    assert result.verify["differing"] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "resnet8_fashion.onnx",
        "resnet8_fashion.qdq.onnx",
        "resnet8_fashion.weights.bin",
        "resnet8_fashion.weights.json",
        "resnet8_fashion.json",
        "resnet8_fashion_compiled.har",
    }
    assert har.read(result.har).state == "compiled"
    _assert_same_integers(tmp_path / "out" / "resnet8_fashion.onnx", result.archive, 256)


def test_compile_refuses_another_arch(resnet8_har: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mz8_layerwise"):
        flow.compile_model(ModelRef(har=resnet8_har), hw_arch="mz8_layerwise", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_emulator_needs_integers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mz optimize"):
        flow.evaluate(ModelRef(model="resnet8_fashion"), EvalOptions(target="emulator"))


def test_an_archive_of_another_network_is_refused(resnet8_har: Path) -> None:
    with pytest.raises(UserError, match="resnet8_fashion"):
        flow.evaluate(ModelRef(model="mobilenet_v2_fashion", har=resnet8_har), EvalOptions())


def test_visualize_draws_float_and_integers(resnet8_har: Path, tmp_path: Path) -> None:
    from PIL import Image

    options = EvalOptions(target="emulator", data_count=3, visualize=tmp_path / "seen")
    flow.evaluate(ModelRef(har=resnet8_har), options)
    pictures = sorted((tmp_path / "seen").iterdir())
    assert [path.name for path in pictures] == ["00000.png", "00001.png", "00002.png"]
    assert Image.open(pictures[0]).width > 300


def test_the_zoo_lists_its_networks() -> None:
    names = [row["name"] for row in flow.list_models("*_fashion")]
    assert names == sorted(NETWORKS)
    assert flow.list_models("nothing*") == []
    row = flow.info(ModelRef(model="mobilenet_v2_fashion"))
    assert row["macs"] > 1_000_000
    assert row["input"] == {"input_layer1": [1, 32, 32]}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_all_test_images_through_plain_onnxruntime(network: str, tmp_path: Path) -> None:
    archive = flow.optimize(ModelRef(model=network), OptimizeOptions()).archive
    har.write(archive, tmp_path / "a.har")
    result = flow.compile_model(ModelRef(har=tmp_path / "a.har"), out=tmp_path)
    _assert_same_integers(tmp_path / f"{network}.onnx", result.archive, 10_000)


def _images(network: str, count: int) -> dict[str, np.ndarray]:
    config = zoo.load_network(network)
    dataset = data.open_evaluation(config, count=count)
    task = tasks.load(config)
    return {"input_layer1": np.concatenate([x for x, _ in data.batches(dataset, task.preprocess_batch, 250)])}


def _assert_same_integers(model: Path, archive: har.Archive, count: int) -> None:
    assert archive.quantization is not None
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    emulator = NumpySession(archive.working_graph, archive.working_params, archive.quantization)
    images = _images(archive.name, count)["input_layer1"]
    for start in range(0, count, 250):
        feeds = {"input_layer1": images[start : start + 250]}
        expected = emulator.run({name: device_input(archive.input_form, x) for name, x in feeds.items()})
        for output, found in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(found, expected[output.name])
