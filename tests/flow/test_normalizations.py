"""Layer and group normalization through the stages: integers all the way, fine scales where nothing says otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.flow.compiled import exact_forms
from tests.parser.networks import network, op, weights

from mz import flow
from mz.compiler.memory_plan import plan_memory
from mz.flow import ModelRef, OptimizeOptions
from mz.flow.options import InputOptions
from mz.quantize import normalization_scales, residual_streams

MEANS = InputOptions(mean=(127,), std=(64,))
Files = tuple[Path, Path]


def saved(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], opset: int, path: Path) -> Path:
    """The network with a classifier behind `r`."""
    head = [op("GlobalAveragePool", "r", "pool"), op("Flatten", "pool", "flat"), op("Gemm", "flat o")]
    arrays = arrays | {"a": weights(8, 3, 3, 3), "w": weights(8, 8, 3, 3, seed=1), "o": weights(8, 4, seed=2)}
    arrays |= {"s": np.abs(weights(8, seed=3)) + 0.5, "b": weights(8, seed=4)}
    onnx.save(network([*nodes, *head], {"x": ["N", 3, 16, 16]}, arrays, opset=opset), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, noise: Path) -> Files:
    """A network that normalizes over channels and over groups of them, and a folder of images."""
    nodes = [
        op("Conv", "x a", "c", pads=[1, 1, 1, 1]),
        op("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        op("LayerNormalization", "t s b", "l"),
        op("Transpose", "l", "u", perm=[0, 3, 1, 2]),
        op("Conv", "u w", "d", pads=[1, 1, 1, 1]),
        op("GroupNormalization", "d s b", "g", num_groups=2),
        op("Relu", "g", "r"),
    ]
    return saved(nodes, {}, 21, tmp_path_factory.mktemp("normalized") / "normalized.onnx"), noise


@pytest.fixture(scope="module")
def written_out(tmp_path_factory: pytest.TempPathFactory, noise: Path) -> Files:
    """Layer normalization over channels by hand, global response normalization, and pixels of unit length, some of
    which are zero in all channels.
    """
    nodes = [
        *(op("Conv", "x a", "c", pads=[1, 1, 1, 1]), op("ReduceMean", "c", "m", axes=[1])),
        *(op("Sub", "c m", "d"), op("Pow", "d two", "q"), op("ReduceMean", "q", "v", axes=[1])),
        *(op("Add", "v e", "v1"), op("Sqrt", "v1", "root"), op("Div", "d root", "l")),
        *(op("Conv", "l w", "k", pads=[1, 1, 1, 1]), op("Relu", "k", "k1")),
        *(op("ReduceL2", "k1", "g", axes=[2, 3]), op("ReduceMean", "g", "g1", axes=[1])),
        *(op("Add", "g1 e", "g2"), op("Div", "g g2", "n"), op("Mul", "k1 n", "k2"), op("Add", "k1 k2", "h")),
        *(op("Sub", "h high", "h1"), op("Relu", "h1", "h2"), op("ReduceL2", "h2", "length", axes=[1])),
        *(
            op("Clip", "length tiny", "least"),
            op("Expand", "least all", "lengths"),
            op("Div", "h2 lengths", "r"),
        ),
    ]
    numbers = {"two": 2.0, "e": 1e-5, "tiny": 1e-12, "high": 30.0}
    arrays = {name: np.float32(value) for name, value in numbers.items()} | {
        "all": np.asarray([1, 8, 16, 16])
    }
    return saved(nodes, arrays, 13, tmp_path_factory.mktemp("written") / "written_out.onnx"), noise


def optimized(files: Files, **options) -> flow.OptimizeResult:
    asked = OptimizeOptions(calib_path=files[1], optimization_level=1, cache=False, **options)
    return flow.optimize(ModelRef(ckpt=files[0], images=MEANS), asked)


@pytest.mark.parametrize(("form", "count"), [("files", 8), ("written_out", 9)])
def test_they_are_integers_and_what_is_compiled_is_exact(
    form: str, count: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files: Files = request.getfixturevalue(form)
    archive = optimized(files).archive
    graph, quantization = archive.working_graph, archive.quantization
    assert quantization is not None and not any(layer.host for layer in graph.layers)
    scales = normalization_scales(graph)
    assert len(scales) == count and {quantization.tensors[name].bits for name in scales} == {16}
    assert archive.report["optimize"]["noise"]["output_db"] > 20
    assert exact_forms(archive, files[1], tmp_path) == {"onnx", "c"}


def test_a_script_decides(files: Files, tmp_path: Path) -> None:
    script = tmp_path / "mine.alls"
    script.write_text("quantization_param({*}, precision_mode=a8_w8)\n")
    quantization = optimized(files, script=script).archive.quantization
    assert quantization is not None
    assert {tensor.bits for tensor in quantization.tensors.values()} == {8}


def test_a_target_without_tables_of_16_bits_keeps_what_is_centred_fine(
    files: Files, short_tables: str
) -> None:
    archive = optimized(files, hw_arch=short_tables).archive
    graph, quantization = archive.working_graph, archive.quantization
    assert quantization is not None
    assert {quantization.tensors[name].bits for name in residual_streams(graph)} == {16}
    assert {quantization.tensors[name].bits for name in normalization_scales(graph)} == {8}


def test_a_target_with_no_room_for_that_keeps_all_at_8_bits(
    files: Files, short_tables: str, tmp_path: Path
) -> None:
    script, small = tmp_path / "coarse.alls", tmp_path / "small.yaml"
    script.write_text("quantization_param({*}, precision_mode=a8_w8)\n")
    asked = {"hw_arch": short_tables}, {"hw_arch": short_tables, "script": script}
    archives = [optimized(files, **options).archive for options in asked]
    fine, coarse = (plan_memory(one.working_graph, one.quantization).arena_bytes for one in archives)
    assert coarse < fine
    small.write_text(
        f"base: [{short_tables}]\nname: small\nmemory: {{ram_bytes: {fine - 1}, reserved_ram_bytes: 0}}\n"
    )
    quantization = optimized(files, hw_arch=str(small)).archive.quantization
    assert quantization is not None
    assert {tensor.bits for tensor in quantization.tensors.values()} == {8}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, noise: Path) -> Files:
    """Two blocks that add to a stream of 16 places and 24 features, of which one is fifty times the others."""
    nodes = [
        *(op("Conv", "x patch", "c", strides=[4, 4]), op("Reshape", "c flat", "f")),
        *(op("Transpose", "f", "t", perm=[0, 2, 1]), op("Add", "t place", "r0")),
    ]
    arrays: dict[str, np.ndarray] = {
        "flat": np.asarray([0, 24, 16]),
        "patch": weights(24, 3, 4, 4) / 7,
        "place": weights(1, 16, 24, seed=1) / 4,
        "s": np.ones(24, np.float32),
        "b": np.zeros(24, np.float32),
        "head": weights(24, 4, seed=2),
    }
    arrays["place"][..., 5] += 50
    arrays["s"][5] = 0.01
    for block in range(2):
        r, w = f"r{block}", f"w{block}"
        arrays[w] = weights(24, 24, seed=3 + block) / 5
        nodes += [
            *(op("LayerNormalization", f"{r} s b", f"n{block}"), op("MatMul", f"n{block} {w}", f"m{block}")),
            *(op("Relu", f"m{block}", f"a{block}"), op("Add", f"{r} a{block}", f"r{block + 1}")),
        ]
    nodes += [op("LayerNormalization", "r2 s b", "n"), op("MatMul", "n head", "y")]
    path = tmp_path_factory.mktemp("stream") / "stream.onnx"
    onnx.save(network(nodes, {"x": ["N", 3, 16, 16]}, arrays), path)
    return path, noise


def test_residual_streams_have_16_bits_and_lose_less(stream: Files, tmp_path: Path) -> None:
    fine = optimized(stream).archive
    assert fine.quantization is not None
    names = residual_streams(fine.working_graph)
    assert {fine.working_graph[name].kind for name in names} >= {"conv", "add"}
    assert {fine.quantization.tensors[name].bits for name in names} == {16}
    script = tmp_path / "coarse.alls"
    script.write_text(f"quantization_param([{', '.join(names)}], precision_mode=a8_w8)\n")
    coarse = optimized(stream, script=script).archive
    assert coarse.quantization is not None
    assert {coarse.quantization.tensors[name].bits for name in names} == {8}
    fine_db, coarse_db = (one.report["optimize"]["noise"]["output_db"] for one in (fine, coarse))
    assert fine_db > coarse_db + 3
    assert exact_forms(fine, stream[1], tmp_path) == {"onnx", "c"}
