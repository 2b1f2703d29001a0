"""A network that is in no zoo: from its ONNX file alone to integers, by a YAML that mz wrote or by options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mz import archive as har
from mz import flow, zoo
from mz.errors import UserError
from mz.flow.options import EvalOptions, InputOptions, ModelRef, OptimizeOptions


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def save(path: Path, shape: list, *, last: bool = False, classes: int = 7, early: bool = False) -> Path:
    """A convolution, a pool and a classifier; `last` has its input as [N, H, W, C], `early` its softmax before the
    classifier.
    """
    node = helper.make_node
    nodes = [node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        *(node("Conv", ["image" if not last else "x", "w"], ["c"], name="conv"), node("Relu", ["c"], ["r"])),
        *(node("GlobalAveragePool", ["r"], ["g"]), node("Flatten", ["g"], ["f"])),
        *(
            (node("Softmax", ["f"], ["s"], name="squash"), node("Gemm", ["s", "k"], ["y"]))
            if early
            else (node("Gemm", ["f", "k"], ["s"]), node("Softmax", ["s"], ["y"]))
        ),
    ]
    channels = shape[-1] if last else shape[1]
    arrays = {"w": weights(4, channels, 3, 3), "k": weights(4, classes)}
    graph = helper.make_graph(
        nodes,
        "mine",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(1)
    for index in range(6):
        Image.fromarray(random.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def test_what_the_graph_says_is_read_and_the_rest_is_said_to_be_assumed(tmp_path: Path) -> None:
    ckpt = save(tmp_path / "my net.onnx", ["N", 3, 16, 16])
    folder = tmp_path / "configs"
    folder.mkdir()
    path, described = flow.init(ModelRef(ckpt=ckpt), folder / "mine.yaml")
    config = zoo.load_network(path)
    assert config == described.config
    assert (config.network.name, config.network.task) == ("my_net", "classification")
    assert config.parser.input_shapes == {"image": (3, 16, 16)}
    assert config.preprocessing.decode == "rgb" and config.preprocessing.std == (255.0,)
    assert config.paths.source.path == "../my net.onnx"
    assert [line.partition(":")[0] for line in described.assumed] == [
        "task",
        "decode",
        "mean",
        "std",
        "resize",
    ]
    assert path.read_text().count("# assumed") == 5
    with pytest.raises(UserError, match="is there already.*--overwrite"):
        flow.init(ModelRef(ckpt=ckpt), path)


def test_pixels_of_a_network_of_integers_stay_as_they_are(tmp_path: Path) -> None:
    ckpt = save(tmp_path / "net.onnx", ["N", 3, 16, 16])
    model = onnx.load(ckpt)
    cast = helper.make_node("Cast", ["pixels"], ["image"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 3, 16, 16])
    )
    onnx.save(model, ckpt)
    _, described = flow.init(ModelRef(ckpt=ckpt), tmp_path / "net.yaml")
    assert described.config.preprocessing.std == (1.0,)
    assert "std: [1.0], assumed: pixels stay 0..255" in "\n".join(described.assumed)


def test_what_the_user_says_is_not_assumed(tmp_path: Path) -> None:
    ckpt = save(tmp_path / "gray.onnx", ["N", 1, "H", "W"])
    with pytest.raises(UserError, match="open shape.*--input-shape"):
        flow.init(ModelRef(ckpt=ckpt), tmp_path / "gray.yaml")
    wishes = InputOptions("outputs", "gray", (127.5,), (127.5,), "fit", (1, 12, 18))
    path, described = flow.init(ModelRef(ckpt=ckpt, images=wishes), tmp_path / "gray.yaml")
    assert described.assumed == () and "# assumed" not in path.read_text()
    assert zoo.load_network(path).preprocessing.steps[0].fit == (12, 18)


def test_a_shape_that_the_file_states_is_an_example(tmp_path: Path) -> None:
    ckpt = save(tmp_path / "net.onnx", [10, 3, 32, 32])
    model = onnx.load(ckpt)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [10, 7]))
    onnx.save(model, ckpt)
    with pytest.raises(UserError, match="fixed to batches of 10; give --input-shape"):
        flow.parse(ModelRef(ckpt=ckpt))
    archive = flow.parse(ModelRef(ckpt=ckpt, images=InputOptions(input_shape=(3, 16, 24))))
    assert archive.graph.inputs[0].shape == (3, 16, 24)
    assert archive.report["parse"]["parity_db"] > 110


@pytest.mark.parametrize(
    ("shape", "wishes", "message"),
    [
        (["N", 5, 16, 16], InputOptions(), "no image of 1 or 3 channels"),
        (["N", 3, 16, 16], InputOptions(decode="gray"), "3 channels, --decode gray gives 1"),
        (["N", 3, 16, 16], InputOptions(mean=(1.0, 2.0)), "mean has 2 values"),
        (["N", 3, 16, 16], InputOptions(std=(0.0,)), "std must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, shape, wishes, message) -> None:
    ckpt = save(tmp_path / "net.onnx", shape)
    with pytest.raises(UserError, match=message):
        flow.init(ModelRef(ckpt=ckpt, images=wishes), tmp_path / "net.yaml")
    assert not (tmp_path / "net.yaml").exists()


def test_a_file_that_changed_or_moved_is_named(tmp_path: Path) -> None:
    ckpt = save(tmp_path / "net.onnx", ["N", 3, 16, 16])
    path, _ = flow.init(ModelRef(ckpt=ckpt), tmp_path / "net.yaml")
    save(ckpt, ["N", 3, 16, 16], classes=8)
    with pytest.raises(UserError, match=r"net\.onnx has changed since its YAML was written"):
        flow.parse(ModelRef(yaml=path))
    ckpt.unlink()
    with pytest.raises(UserError, match=r"net\.onnx: no such file; mend the path"):
        flow.parse(ModelRef(yaml=path))


@pytest.mark.parametrize("by_yaml", [True, False])
@pytest.mark.parametrize("last", [False, True])
def test_from_a_file_to_integers_on_images_without_labels(tmp_path: Path, images, by_yaml, last) -> None:
    ckpt = save(tmp_path / "net.onnx", ["N", 16, 16, 3] if last else ["N", 3, 16, 16], last=last)
    ref = ModelRef(ckpt=ckpt, images=InputOptions(mean=(0.0, 0.0, 0.0), std=(255.0,)))
    if by_yaml:
        ref = ModelRef(yaml=flow.init(ref, tmp_path / "net.yaml")[0])
    plain = flow.evaluate(ref, EvalOptions(data_path=images))
    assert plain.metrics == {} and plain.count == 6
    optimized = flow.optimize(ref, OptimizeOptions(calib_path=images, calib_count=6))
    path = tmp_path / "net.har"
    har.write(optimized.archive, path)
    found = flow.evaluate(ModelRef(har=path), EvalOptions(target="emulator", data_path=images))
    assert found.metrics == {} and found.degradation == {}
    assert found.agreement >= 50 and found.snr_db > 20
    compiled = flow.compile_model(ModelRef(har=path), out=tmp_path / "out", verify=True, data_path=images)
    assert compiled.verify["differing"] == 0


def test_outputs_that_mz_cannot_read_are_compared(tmp_path: Path, images: Path) -> None:
    ckpt = save(tmp_path / "net.onnx", ["N", 3, 16, 16])
    ref = ModelRef(ckpt=ckpt, end_nodes=("conv",))
    archive = flow.optimize(ref, OptimizeOptions(calib_path=images, calib_count=6)).archive
    assert archive.config["network"]["task"] == "outputs"
    har.write(archive, tmp_path / "net.har")
    options = EvalOptions(target="emulator", data_path=images, visualize=tmp_path / "drawn")
    found = flow.evaluate(ModelRef(har=tmp_path / "net.har"), options)
    assert found.snr_db > 20
    least = 100 / np.sqrt(1 + 10 ** (-found.snr_db / 10))
    assert least - 0.5 < found.agreement < 100
    low, high = found.agreement_ci95
    assert low <= found.agreement <= high and high - low < 1
    assert len(list((tmp_path / "drawn").iterdir())) == 6


@pytest.mark.parametrize("early", [True, False])
def test_what_the_host_multiplies_is_told_wherever_integers_are_measured(
    tmp_path: Path, images: Path, early: bool
) -> None:
    ref = ModelRef(ckpt=save(tmp_path / "mine.onnx", ["N", 3, 16, 16], early=early))
    optimized: list[str] = []
    result = flow.optimize(
        ref, OptimizeOptions(optimization_level=0, calib_path=images), note=optimized.append
    )
    har.write(result.archive, tmp_path / "mine.har")
    loaded: list[str] = []
    flow.compile_model(
        ModelRef(har=tmp_path / "mine.har"), out=tmp_path / "out", emit=["onnx"], note=loaded.append
    )
    for notes in (optimized, loaded):
        told = [line for line in notes if "of the MACs" in line]
        assert len(told) == early
        assert all("99." in line and "from softmax1 on (Softmax" in line for line in told)
