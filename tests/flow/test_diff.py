"""`mz diff`, the dump of layers and the counters, on a real bundled network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from mz import archive as har
from mz import data, flow, tasks, zoo
from mz.cli import cli
from mz.emulator import NumpySession
from mz.engines import integer_ort, self_test
from mz.errors import UserError
from mz.flow.evaluate import batch_size
from mz.flow.options import EvalOptions, ModelRef
from mz.optimize import device_input


def write_changed(source: Path, target: Path, **changes: object) -> Path:
    har.write(dataclasses.replace(har.read(source), **changes), target)  # type: ignore[arg-type]
    return target


@pytest.fixture(scope="module")
def compiled(resnet8_har: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flow.compile_model(ModelRef(har=resnet8_har), out=tmp_path_factory.mktemp("compiled")).har


@pytest.fixture(scope="module")
def other_weight(resnet8_har: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The archive with one layer's kernel turned round, and that layer."""
    archive = har.read(resnet8_har)
    assert archive.quantization is not None
    name = list(archive.quantization.weights)[4]
    weight = archive.quantization.weights[name]
    weights = archive.quantization.weights | {
        name: dataclasses.replace(weight, kernel=np.ascontiguousarray(weight.kernel[::-1]))
    }
    quantization = dataclasses.replace(archive.quantization, weights=weights)
    path = tmp_path_factory.mktemp("other") / "other.har"
    return write_changed(resnet8_har, path, quantization=quantization), name


def test_engines_archives_and_files_that_agree(resnet8_har: Path, compiled: Path) -> None:
    for result in (
        flow.diff(resnet8_har, engines=("numpy", "onnxruntime"), data_count=4),
        flow.diff(resnet8_har, compiled, data_count=4),
        flow.diff(compiled, data_count=4),
        flow.diff(resnet8_har, compiled, engines=("onnxruntime", "artefact"), data_count=4),
    ):
        assert result.identical
        assert result.images == 4
        layers = har.read(resnet8_har).working_graph.layers
        assert list(result.layers) == [layer.name for layer in layers if not layer.host]
        assert not result.other_scales and not result.only_in_one and not result.fused


def test_the_changed_layer_is_found(resnet8_har: Path, other_weight: tuple[Path, str]) -> None:
    changed, name = other_weight
    for engines in ((), ("onnxruntime",)):
        result = flow.diff(resnet8_har, changed, engines=engines, data_count=3)
        assert result.first_difference is not None
        assert result.first_difference.layer == name
        before = list(result.layers)[: list(result.layers).index(name)]
        assert before and not any(result.layers[layer] for layer in before)
    first = result.first_difference
    integers = []
    for path in (resnet8_har, changed):
        archive = har.read(path)
        assert archive.quantization is not None
        session = NumpySession(archive.working_graph, archive.working_params, archive.quantization, [name])
        integers.append(session.run(first_images("resnet8_fashion", 3))[name])
    assert first is not None
    place = (first.image, *first.index)
    assert (first.expected, first.found) == (integers[0][place], integers[1][place])


def first_images(network: str, count: int) -> dict[str, np.ndarray]:
    config = zoo.load_network(network)
    dataset = data.open_evaluation(config, None, count)
    ((images, _),) = data.batches(dataset, tasks.load(config).preprocess_batch, count)
    return {"input_layer1": images}


def test_a_compiled_file_that_was_tampered_with(compiled: Path, tmp_path: Path) -> None:
    archive = har.read(compiled)
    key = f"{archive.name}.onnx"
    model = onnx.load_from_string(archive.artefacts[key])
    convs = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    kernel = next(entry for entry in model.graph.initializer if entry.name == convs[3].input[3])
    kernel.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(kernel)[::-1]), kernel.name)
    )
    artefacts = archive.artefacts | {key: model.SerializeToString()}
    changed = write_changed(compiled, tmp_path / "changed.har", artefacts=artefacts)
    result = flow.diff(changed, data_count=2)
    assert result.first_difference is not None
    assert convs[3].name.startswith(f"{result.first_difference.layer}_")
    output = CliRunner().invoke(cli, ["diff", str(changed), "--data-count", "2", "--json", "-"])
    assert output.exit_code == 1, output.output
    assert json.loads(output.stdout)["first_difference"]["layer"] == result.first_difference.layer
    assert "first difference at layer" in output.stderr


def test_a_fault_that_only_fusion_makes_is_told_apart(
    resnet8_har: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = integer_ort.IntegerOrtSession.run

    def run(self, feeds):  # type: ignore[no-untyped-def]
        found = honest(self, feeds)
        return found if len(found) > 1 else {name: value ^ 1 for name, value in found.items()}

    monkeypatch.setattr(integer_ort.IntegerOrtSession, "run", run)
    notes: list[str] = []
    result = flow.diff(resnet8_har, engines=("numpy", "onnxruntime"), data_count=2, note=notes.append)
    assert result.fused and not result.identical
    assert "fusion" in notes[0]


def test_exit_codes_and_text(resnet8_har: Path, other_weight: tuple[Path, str]) -> None:
    same = CliRunner().invoke(
        cli, ["diff", str(resnet8_har), "--engines", "numpy,onnxruntime", "--data-count", "2"]
    )
    assert same.exit_code == 0 and "identical" in same.stdout
    changed, name = other_weight
    different = CliRunner().invoke(cli, ["diff", str(resnet8_har), str(changed), "--data-count", "2"])
    assert different.exit_code == 1
    assert f"first difference at layer {name}: image 0, index [" in different.stdout


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        (("numpy", "tpu"), "no engine 'tpu'"),
        (("numpy", "numpy"), "not the same twice"),
        (("numpy",), "name two"),
        ((), "holds no compiled ONNX file"),
    ],
)
def test_what_cannot_be_compared(resnet8_har: Path, engines: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        flow.diff(resnet8_har, engines=engines, data_count=2)


def test_an_archive_without_integers_is_refused(resnet8_har: Path, tmp_path: Path) -> None:
    parsed = write_changed(resnet8_har, tmp_path / "parsed.har", state="parsed", quantization=None)
    with pytest.raises(UserError, match="holds no integers yet"):
        flow.diff(parsed, resnet8_har)


@pytest.mark.parametrize("engine", ["ort", "numpy"])
def test_dumped_layers_are_the_emulators(resnet8_har: Path, tmp_path: Path, engine: str) -> None:
    options = EvalOptions(
        target="emulator", data_count=5, batch_size=2, engine=engine, dump_layers=tmp_path / "dump"
    )
    flow.evaluate(ModelRef(har=resnet8_har), options)
    archive = har.read(resnet8_har)
    assert archive.quantization is not None
    rows = json.loads((tmp_path / "dump" / "layers.json").read_text())
    names = [row["layer"] for row in rows]
    judge = NumpySession(archive.working_graph, archive.working_params, archive.quantization, names)
    images = first_images("resnet8_fashion", 5)
    expected = judge.run({name: device_input(archive.input_form, x) for name, x in images.items()})
    files = sorted((tmp_path / "dump").glob("*.npz"))
    assert [file.name for file in files] == ["000000.npz", "000002.npz", "000004.npz"]
    parts = [np.load(file) for file in files]
    for row in rows:
        name, quant = row["layer"], archive.quantization.tensors[row["layer"]]
        assert parts[0][name].dtype == np.uint8
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), expected[name])
        assert (row["scale"], row["zero_point"], row["bits"]) == (quant.scale, quant.zero_point, quant.bits)
    with pytest.raises(UserError, match="holds a dump already"):
        flow.evaluate(ModelRef(har=resnet8_har), options)


def test_the_float_networks_layers_are_dumped_as_floats(tmp_path: Path) -> None:
    options = EvalOptions(data_count=3, dump_layers=tmp_path)
    flow.evaluate(ModelRef(model="resnet8_fashion"), options)
    rows = json.loads((tmp_path / "layers.json").read_text())
    (path,) = tmp_path.glob("*.npz")
    held = np.load(path)
    assert {row["layer"] for row in rows} == set(held)
    assert all(held[row["layer"]].dtype == np.float32 for row in rows)
    assert all(held[row["layer"]].shape == (3, *row["shape"]) for row in rows)


def test_saturation_is_reported_by_layer_whatever_the_engine(resnet8_har: Path) -> None:
    found = [
        flow.evaluate(
            ModelRef(har=resnet8_har),
            EvalOptions(target="emulator", data_count=20, engine=engine, saturation=True),
        ).saturation
        for engine in ("ort", "numpy")
    ]
    assert found[0] == found[1] is not None
    assert found[0]
    assert all(0 <= row["low"] + row["high"] <= row["total"] // 100 for row in found[0].values())
    with pytest.raises(UserError, match="--target emulator"):
        flow.evaluate(ModelRef(model="resnet8_fashion"), EvalOptions(saturation=True))


def test_the_self_tests_notes_reach_the_user(resnet8_har: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(model, feeds, chosen):  # type: ignore[no-untyped-def]
        found = honest(model, feeds, chosen)
        wrong = any(node.op_type == "ReduceSum" for node in model.graph.node)
        return {name: value ^ 1 for name, value in found.items()} if wrong else found

    honest = self_test.run_model
    monkeypatch.setattr(self_test, "run_model", run)
    notes: list[str] = []
    flow.evaluate(ModelRef(har=resnet8_har), EvalOptions(target="emulator", data_count=8), note=notes.append)
    assert any("self-test" in note and "average" in note for note in notes)


def test_batches_are_smaller_where_tensors_are_larger(resnet8_har: Path) -> None:
    graph = har.read(resnet8_har).working_graph
    assert batch_size(graph) == 64
    wide = graph.replace(
        {layer.name: dataclasses.replace(layer, shape=(64, 400, 400)) for layer in graph.layers[:3]}
    )
    assert 1 <= batch_size(wide, every_layer=True) <= batch_size(wide) < 8
