"""Layer and group normalization through the stages: integers all the way, fine scales where nothing says otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.parser.networks import network, op, weights

from mz import archive as har
from mz import flow
from mz.flow import ModelRef, OptimizeOptions
from mz.flow.options import InputOptions
from mz.quantize import normalization_scales

MEANS = InputOptions(mean=(127,), std=(64,))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network that normalizes over channels and over groups of them, and a folder of images."""
    folder = tmp_path_factory.mktemp("normalizations")
    nodes = [
        op("Conv", "x a", "c", pads=[1, 1, 1, 1]),
        op("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        op("LayerNormalization", "t s b", "l"),
        op("Transpose", "l", "u", perm=[0, 3, 1, 2]),
        op("Conv", "u w", "d", pads=[1, 1, 1, 1]),
        op("GroupNormalization", "d s b", "g", num_groups=2),
        op("Relu", "g", "r"),
        op("GlobalAveragePool", "r", "p"),
        op("Flatten", "p", "f"),
        op("Gemm", "f o"),
    ]
    arrays = {"a": weights(8, 3, 3, 3), "w": weights(8, 8, 3, 3, seed=1), "o": weights(8, 4, seed=2)}
    arrays |= {"s": np.abs(weights(8, seed=3)) + 0.5, "b": weights(8, seed=4)}
    onnx.save(network(nodes, {"x": ["N", 3, 16, 16]}, arrays, opset=21), folder / "normalized.onnx")
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = rng.normal(128, 60, (4, 4, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(images / f"{index}.png")
    return folder / "normalized.onnx", images


def optimized(files: tuple[Path, Path], **options) -> flow.OptimizeResult:
    asked = OptimizeOptions(calib_path=files[1], optimization_level=1, cache=False, **options)
    return flow.optimize(ModelRef(ckpt=files[0], images=MEANS), asked)


def test_they_are_integers_and_what_is_compiled_is_exact(files: tuple[Path, Path], tmp_path: Path) -> None:
    archive = optimized(files).archive
    graph, quantization = archive.working_graph, archive.quantization
    assert quantization is not None and not any(layer.host for layer in graph.layers)
    scales = normalization_scales(graph)
    assert len(scales) == 4 and {quantization.tensors[name].bits for name in scales} == {16}
    assert archive.report["optimize"]["noise"]["output_db"] > 20
    path = tmp_path / "normalized.har"
    har.write(archive, path)
    emit = ("onnx", "c")
    compiled = flow.compile_model(
        ModelRef(har=path), out=tmp_path / "out", verify=True, data_path=files[1], emit=emit
    )
    assert compiled.verify is not None
    assert [compiled.verify["forms"][form]["exact"] for form in emit] == [True, True]


def test_a_script_and_a_target_without_16_bits_decide(files: tuple[Path, Path], tmp_path: Path) -> None:
    script = tmp_path / "mine.alls"
    script.write_text("quantization_param({*}, precision_mode=a8_w8)\n")
    for asked in ({"script": script}, {"hw_arch": "mcu"}):
        quantization = optimized(files, **asked).archive.quantization
        assert quantization is not None
        assert {tensor.bits for tensor in quantization.tensors.values()} == {8}
