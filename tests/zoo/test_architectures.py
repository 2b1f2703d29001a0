"""ONNX files built from checkpoints: the right structure, the same bytes, and the published networks' own outputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mz import zoo
from mz.errors import UserError
from mz.zoo.architectures import ARCHITECTURES
from mz.zoo.architectures.writer import Network
from mz.zoo.schema import Architecture


class Recording(Network):
    """A network whose checkpoint has every weight that is asked for."""

    def _take(self, name: str, shape: tuple[int, ...]) -> str:
        positive = name.endswith("running_var")
        value = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32) * 0.1
        self._weights[name] = np.abs(value) + 1 if positive else value
        return super()._take(name, shape)


def built(name: str) -> bytes:
    network = Recording(name, {"bn1.num_batches_tracked": np.array(3)}, "test")
    ARCHITECTURES[name](network)
    return network.finish()


def test_names_are_those_of_the_schema() -> None:
    assert set(ARCHITECTURES) == set(Architecture.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_runs(name: str) -> None:
    content = built(name)
    assert content == built(name)
    model = onnx.load_from_string(content)
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    session = onnxruntime.InferenceSession(content)
    (logits,) = session.run(["logits"], {"input": np.ones((2, 3, size, size), np.float32)})
    assert logits.shape == (2, 10 if name.startswith("resnet") else 1000) and np.isfinite(logits).all()
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["BatchNormalization"] == kinds["Conv"] and all(node.name for node in model.graph.node)
    config = zoo.load_network(name)
    assert config.parser.input_shapes == {"input": (3, size, size)}


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    [
        ("efficientnet_lite0", 50, 4_652_008),
        ("efficientnet_lite1", 65, 5_416_680),
        ("efficientnet_lite2", 65, 6_092_072),
        ("resnet20_cifar10", 20, 269_722),
        ("resnet56_cifar10", 56, 853_018),
    ],
)
def test_sizes_are_the_published_ones(name: str, layers: int, parameters: int) -> None:
    model = onnx.load_from_string(built(name))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] + kinds["Gemm"] == layers
    learned = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims and "running" not in tensor.name
    ]
    assert sum(int(np.prod(tensor.dims)) for tensor in learned) == parameters


def test_a_checkpoint_of_another_network() -> None:
    lay = ARCHITECTURES["resnet20_cifar10"]
    with pytest.raises(
        UserError, match=r"^x\.th: not a checkpoint of resnet20_cifar10: it has no conv1\.weight$"
    ):
        lay(Network("resnet20_cifar10", {}, "x.th"))
    wrong = {"conv1.weight": np.zeros((8, 3, 3, 3), np.float32)}
    with pytest.raises(
        UserError, match=r"conv1\.weight is float32 \[8, 3, 3, 3\], expected float32 \[16, 3, 3, 3\]"
    ):
        lay(Network("resnet20_cifar10", wrong, "x.th"))
    network = Recording("resnet20_cifar10", {"layer4.weight": np.zeros(1)}, "x.th")
    lay(network)
    with pytest.raises(UserError, match=r"it has no place for layer4\.weight"):
        network.finish()


def test_resnet20_equals_the_published_network(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MZ_CACHE", str(tmp_path))
    config = zoo.load_network("resnet20_cifar10")
    path = zoo.model_path(config, offline=True)
    assert path == zoo.model_path(config, offline=True) and path.is_relative_to(tmp_path)
    reference = next(mirror.rglob("resnet20_cifar10_bn.onnx"))
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    ours, theirs = (
        onnxruntime.InferenceSession(file).run(None, {"input": images})[0] for file in (path, reference)
    )
    assert 10 * np.log10(np.sum(theirs**2) / np.sum((ours - theirs) ** 2)) > 100
