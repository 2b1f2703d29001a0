# ruff: noqa: E501
"""Every full-precision pass from a model script to integers, and back from the script that the archive keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tests.flow.test_init import save

from mz import archive as har
from mz.archive import Archive
from mz.cli import cli
from mz.graph import AvgPool

UNEQUALIZED = "pre_quantization_optimization(equalization, policy=disabled) "
NORMALIZED = "normalization1 = normalization([72.94], [90.02])"


def mz(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json", "-"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refusal(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == 2, result.output
    return result.output


def optimized(folder: Path, text: str, *options: object, name: str = "a") -> Path:
    script, path = folder / f"{name}.alls", folder / f"{name}.har"
    script.write_text(text)
    mz("optimize", *options, "--model-script", script, "--har-out", path)
    return path


def replayed(path: Path, *options: object) -> Path:
    """The archive that its own script makes."""
    return optimized(path.parent, har.read(path).script, *options, name="again")


def step(archive: Archive, name: str) -> dict[str, Any]:
    (found,) = (step for step in archive.report["optimize"]["steps"] if step["name"] == name)
    return found


PASSES = {
    "tse": (
        "mobilenet_v3_fashion",
        "pre_quantization_optimization(se_optimization, method=tse, mode=sequential, count=4, tile_height=3)",
        "tiled squeeze-and-excite",
        3.0,
    ),
    "custom_tse": (
        "mobilenet_v3_fashion",
        "pre_quantization_optimization(se_optimization, method=tse, mode=custom, layers=[avgpool1], tile_height=7)",
        "tiled squeeze-and-excite",
        15.0,
    ),
    "average_pool": (
        "resnet8_fashion",
        "pre_quantization_optimization(global_avgpool_reduction, layers=avgpool1, division_factors=[4, 2])",
        "average pool avgpool1",
        100.0,
    ),
    "equalization": (
        "resnet8_fashion",
        "pre_quantization_optimization(equalization, policy=enabled, method=two_step)",
        "equalization",
        80.0,
    ),
    "clipped_weights": (
        "resnet8_fashion",
        "pre_quantization_optimization(weights_clipping, layers={conv*}, mode=percentile, clipping_values=[0.1, 99.9])"
        "pre_quantization_optimization(weights_clipping, layers=[conv2], mode=manual, clipping_values=[-0.5, 0.5])"
        "pre_quantization_optimization(weights_clipping, layers=[conv3], mode=mmse)",
        "weight clipping",
        10.0,
    ),
    "normalization": ("resnet8_fashion", NORMALIZED, "input", 100.0),
    "normalization_and_resize": (
        "resnet8_fashion",
        f"{NORMALIZED} resize_input1 = resize(input_layer1, resize_shapes=[64, 48])",
        "input",
        10.0,
    ),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case == "normalization" else pytest.mark.slow) for case in PASSES],
)
def test_a_pass_from_script_to_integers_and_back(case: str, tmp_path: Path) -> None:
    network, text, name, least = PASSES[case]
    options = ("--calib-count", 16, "--optimization-level", 0, network)
    path = optimized(tmp_path, text if case == "equalization" else UNEQUALIZED + text, *options)
    archive = har.read(path)
    assert step(archive, name)["applied"], step(archive, name)
    assert archive.fpo_graph is not None
    exact = mz("eval", "--har", path, "--target", "fp_optimized", "--data-count", 64)
    assert exact["precision"] == "float32"
    assert exact["snr_db"] is None or exact["snr_db"] >= least
    integers = mz("eval", "--har", path, "--target", "emulator", "--data-count", 64)
    assert integers["snr_db"] >= min(least, 20) - 3
    assert replayed(path, network).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_all_at_once_at_the_default_level(tmp_path: Path) -> None:
    text = f"""{NORMALIZED}
pre_quantization_optimization(se_optimization, method=tse, mode=sequential, tile_height=7)
pre_quantization_optimization(weights_clipping, layers=[conv1], mode=percentile, clipping_values=[0.05, 99.95])
pre_quantization_optimization(activation_clipping, layers=[conv1], mode=percentile_force, clipping_values=[0.05, 99.9])
pre_quantization_optimization(equalization, policy=enabled, method=dfq)
change_output_activation(softmax)
quantization_param([normalization1], precision_mode=a16_w16, force_range_out=[-1, 2.1])
"""
    path = optimized(tmp_path, text, "--calib-count", 32, "mobilenet_v3_fashion")
    archive = har.read(path)
    assert archive.quantization is not None
    assert archive.quantization.tensors["normalization1"].bits == 16
    steps = [step["name"] for step in archive.report["optimize"]["steps"]]
    wanted = ["input", "dead channels", "tiled squeeze-and-excite", "weight clipping", "equalization"]
    assert steps[:5] == wanted
    assert mz("eval", "--har", path, "--target", "emulator", "--data-count", 200)["agreement"] >= 90
    assert replayed(path, "mobilenet_v3_fashion").read_bytes() == path.read_bytes()
    compiled = mz("compile", "--har", path, "--out", tmp_path / "out", "--verify")
    assert compiled["verify"]["differing"] == 0
    again = optimized(
        tmp_path, archive.script, "--har", path, name="from_har"
    )  # its network has the softmax already
    assert har.read(again).graph == archive.graph


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("pre_quantization_optimization(activation_clipping, layers=[conv2], mode=manual, clipping_values=[0, 0.5])", (0, 0.5)),
        ("quantization_param([conv2], force_range_out=[-1, 3])", (-1, 3)),
        ("quantization_param([conv3], force_range_in=[-1, 3], force_range_index=0)", (-1, 3)),
    ],
)  # fmt: skip
def test_ranges_of_one_layer(text: str, bounds: tuple[float, float], tmp_path: Path) -> None:
    equalized = "" if "force_range_in" in text else UNEQUALIZED
    path = optimized(
        tmp_path, equalized + text, "--calib-count", 16, "--optimization-level", 0, "resnet8_fashion"
    )
    archive = har.read(path)
    assert archive.quantization is not None
    assert archive.graph["conv3"].inputs == ("conv2",)
    tensor = archive.quantization.tensors["conv2"]
    ends = [float(tensor.scale) * (q - tensor.zero_point) for q in (0, 2**tensor.bits - 1)]
    assert ends == pytest.approx(bounds, abs=2 * float(tensor.scale))
    assert "conv2" not in archive.report["optimize"]["passes"].get("equalization", {}).get("layers", ())
    assert replayed(path, "resnet8_fashion").read_bytes() == path.read_bytes()


def test_percentiles_of_activations_narrow_the_range(tmp_path: Path) -> None:
    def top(low: float, high: float) -> float:
        text = (
            f"{UNEQUALIZED}pre_quantization_optimization(activation_clipping, layers=[conv2], mode=percentile, "
            f"clipping_values=[{low}, {high}])"
        )
        path = optimized(tmp_path, text, "--calib-count", 16, "--optimization-level", 0, "resnet8_fashion")
        quantization = har.read(path).quantization
        assert quantization is not None
        tensor = quantization.tensors["conv2"]
        return float(tensor.scale) * (255 - tensor.zero_point)

    assert top(0, 90) < top(0, 99) < top(0, 100)


def test_an_output_activation_is_part_of_the_network(tmp_path: Path) -> None:
    text = f"{UNEQUALIZED}change_output_activation(sigmoid) quantization_param([fc1], precision_mode=a16_w8)"
    options = ("--calib-count", 16, "--optimization-level", 0, "resnet8_fashion")
    path = optimized(tmp_path, text, *options)
    archive = har.read(path)
    (output,) = archive.graph.outputs
    assert archive.quantization is not None
    assert output.endswith("_sigmoid") and archive.quantization.tensors[output].bits == 16
    float_network = mz("eval", "--har", path, "--data-count", 64)
    assert float_network["metrics"] == mz("eval", "resnet8_fashion", "--data-count", 64)["metrics"]
    assert replayed(path, "resnet8_fashion").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("normalization1 = normalization([1], [2])", "normalization1: mean [1.0] is not that of the network's preprocessing"),
        ("normalization1 = normalization([1, 2, 3], [2, 2, 2])", "normalization1: has 3 channels, and the network's images have 1"),
        ("resize([input_layer1], resize_shapes=[8, 8])", "resize: the input is a layer's name"),
        ("r1 = resize(input_layer1, resize_shapes=[8, 8])", "r1: the network takes normalized values, which are no pixels"),
        (f"{NORMALIZED} input_conversion(bgr_to_rgb)", "input_conversion1: bgr_to_rgb cannot stand before a network that takes gray"),
        ("pre_quantization_optimization(se_optimization, method=tse, mode=sequential, tile_height=2)", "resnet8_fashion has no squeeze-and-excite block"),
        ("pre_quantization_optimization(global_avgpool_reduction, layers=avgpool1, division_factors=[3, 2])", "a map of 4 x 4, which division factors of 3 x 2 do not divide"),
        ("pre_quantization_optimization(weights_clipping, layers=[avgpool1], mode=manual, clipping_values=[-1, 1])", "layer avgpool1: has no weights to clip"),
        ("change_output_activation(conv1, sigmoid)", "conv1 is no output of resnet8_fashion; those are fc1"),
        ("quantization_param([conv3], force_range_in=[0, 1], force_range_index=1)", "force_range_index=1: layer conv3 has 1 inputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    script = tmp_path / "a.alls"
    script.write_text(text)
    said = refusal("optimize", "resnet8_fashion", "--calib-count", 8, "--model-script", script)
    assert message in said and "Traceback" not in said
    assert not list(tmp_path.glob("*.har"))


def test_eval_of_passes_that_never_ran(tmp_path: Path) -> None:
    path = optimized(tmp_path, "", "--calib-count", 8, "--optimization-level", -100, "resnet8_fashion")
    assert "no full-precision pass changed it" in refusal("eval", "--har", path, "--target", "fp_optimized")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Smooth pictures: colour that changes slowly survives halved chroma."""
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[0:16, 0:16] / 15
    rng = np.random.default_rng(0)
    for index in range(12):
        planes = [128 + 60 * np.sin(rng.uniform(0, 3) + rng.uniform(-2, 2) * (x + y)) for _ in range(3)]
        Image.fromarray(np.stack(planes, -1).round().astype(np.uint8)).save(folder / f"{index:02}.png")
    return folder


INPUTS = {
    "nv12": (
        "yuv_to_rgb1 = input_conversion(yuv_to_rgb) reshape = input_conversion(input_layer1, nv12_to_hailo_yuv)",
        [1, 24, 16],
    ),
    "yuy2": ("a, b = input_conversion(input_layer1, yuy2_to_rgb, emulator_support=True)", [1, 16, 32]),
    "rgbx": ("input_conversion(tf_rgbx_to_hailo_rgb)", [4, 16, 16]),
    "bgr": ("input_conversion(bgr_to_rgb)", [3, 16, 16]),
    "nv12_resized": ("resize(resize_shapes=[32, 32]) input_conversion(nv12_to_rgb)", [1, 48, 32]),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case == "nv12" else pytest.mark.slow) for case in INPUTS]
)
def test_a_camera_format_from_script_to_the_compiled_file(case: str, photos: Path, tmp_path: Path) -> None:
    text, shape = INPUTS[case]
    text = f"norm1 = normalization([127.5, 127.5, 127.5], [64, 64, 64]) {text} {UNEQUALIZED}"
    images = ("--decode", "rgb", "--mean", "127.5", "--std", "64")
    options = ("--ckpt", save(tmp_path / "mine.onnx", ["N", 3, 16, 16]), *images, "--calib-path", photos)
    path = optimized(tmp_path, text, *options, "--calib-count", 12)
    archive = har.read(path)
    assert list(archive.working_graph.inputs[0].shape) == shape
    assert archive.quantization is not None
    pixels = archive.quantization.tensors["input_layer1"]
    assert (pixels.scale, pixels.zero_point, pixels.bits) == (1.0, 0, 8)  # a camera's bytes are the integers
    steps = [step["step"] for step in archive.input_form]
    assert steps[0] == "denormalize" and len(steps) > 1
    assert step(archive, "input")["applied"]
    exact = mz("eval", "--har", path, "--target", "fp_optimized", "--data-path", photos)
    assert exact["snr_db"] is None or exact["snr_db"] >= 25  # rgbx loses nothing
    emulated = mz("eval", "--har", path, "--target", "emulator", "--data-path", photos)
    assert emulated["snr_db"] >= 20
    verdict = mz("compile", "--har", path, "--out", tmp_path / "out", "--verify", "--data-path", photos)
    assert verdict["verify"]["differing"] == 0 and verdict["verify"]["images"] == 12
    assert replayed(path, *options).read_bytes() == path.read_bytes()
    assert "norm1" not in archive.working_graph.by_name  # the convolution that reads the image holds it


@pytest.mark.parametrize(
    ("decode", "text", "message"),
    [
        ("bgr", "c1 = input_conversion(nv12_to_rgb)", "c1: nv12_to_rgb gives RGB, and the network takes BGR: put input_conversion(bgr_to_rgb)"),
        ("bgr", "c1 = input_conversion(tf_rgbx_to_hailo_rgb)", "c1: rgbx_to_rgb gives RGB, and the network takes BGR"),
        ("rgb", "c1 = input_conversion(nv12_to_yuv)", "c1: nv12_to_yuv gives YUV, and the network takes RGB: put input_conversion(yuv_to_rgb)"),
        ("rgb", "input_conversion(nv12_to_rgb) r1 = resize(resize_shapes=[8, 8])", "r1: nv12 cannot be resized: put the resize before the conversion"),
        ("rgb", "input_conversion(yuv_to_rgb) c2 = input_conversion(bgr_to_rgb)", "c2: bgr_to_rgb cannot stand before a network that takes yuv"),
    ],
)  # fmt: skip
def test_formats_that_do_not_follow_each_other(
    decode: str, text: str, message: str, photos: Path, tmp_path: Path
) -> None:
    script = tmp_path / "a.alls"
    script.write_text(text)
    said = refusal(
        "optimize", "--ckpt", save(tmp_path / "mine.onnx", ["N", 3, 16, 16]), "--decode", decode,
        "--mean", "0", "--std", "1", "--calib-path", photos, "--calib-count", 4, "--model-script", script,
    )  # fmt: skip
    assert message in " ".join(said.split()), said


def with_prelus(path: Path, photos: Path) -> tuple[object, ...]:
    """Options for a network written to `path`: a leaky convolution; a sum, and a concatenation, normalized and put
    through PReLUs; a classifier.
    """
    node, rng = helper.make_node, np.random.default_rng(5)
    nodes = [
        node("Conv", ["image", "w0"], ["c0"]),
        node("LeakyRelu", ["c0"], ["leaky"], alpha=0.1),
        node("Conv", ["leaky", "w1"], ["c1"]),
        node("Add", ["leaky", "c1"], ["sum"]),
        node("BatchNormalization", ["sum", *(f"{name}4" for name in _NORMAL)], ["normal0"], name="normal0"),
        node("PRelu", ["normal0", "slope4"], ["act0"]),
        node("Conv", ["act0", "w1"], ["c2"]),
        node("Concat", ["act0", "c2"], ["joined"], axis=1),
        node(
            "BatchNormalization", ["joined", *(f"{name}8" for name in _NORMAL)], ["normal1"], name="normal1"
        ),
        node("PRelu", ["normal1", "slope8"], ["act1"]),
        *(node("GlobalAveragePool", ["act1"], ["pooled"]), node("Flatten", ["pooled"], ["flat"])),
        node("Gemm", ["flat", "k"], ["y"]),
    ]
    shapes: dict[str, tuple[int, ...]] = {"w0": (4, 3, 3, 3), "w1": (4, 4, 1, 1), "k": (8, 7)}
    shapes |= {f"{name}{size}": (size,) for name in _NORMAL for size in (4, 8)}
    shapes |= {"slope4": (4, 1, 1), "slope8": (8, 1, 1)}
    arrays = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    for size in (4, 8):
        arrays[f"variance{size}"] = rng.uniform(0.5, 2, size).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "with_prelus",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    read = ("--decode", "rgb", "--mean", "127.5", "--std", "64")
    return ("--ckpt", path, *read, "--calib-path", photos)


_NORMAL = ("gain", "shift", "mean", "variance")


@pytest.mark.parametrize(
    ("level", "text", "bits", "reach"),
    [
        (-100, "", 8, None),
        (0, "", 8, None),
        (1, "", 8, None),
        (1, "quantization_param([activation2], precision_mode=a16_w8)", 16, None),
        (1, "quantization_param([ew_add1], precision_mode=a16_w8)", 16, None),
        (
            1,
            "pre_quantization_optimization(activation_clipping, layers=[activation2], mode=manual, "
            "clipping_values=[-1, 2])",
            8,
            2.0,
        ),
    ],
)
def test_prelus_become_a_part_of_the_layers_before_them(
    level: int, text: str, bits: int, reach: float | None, photos: Path, tmp_path: Path
) -> None:
    """From level 0 on, with the bits and the range that the script gives either of the two."""
    options = with_prelus(tmp_path / "mine.onnx", photos)
    path = optimized(tmp_path, UNEQUALIZED + text, *options, "--optimization-level", level)
    archive = har.read(path)
    present = archive.working_graph.by_name
    assert archive.graph["activation2"].inputs == ("normalization1",)
    if level < 0:
        assert {"activation1", "activation2", "activation3", "normalization1"} <= set(present)
        assert "PReLUs" not in str(archive.report["optimize"]["steps"])
    else:
        assert not {"activation1", "activation2", "activation3", "normalization1"} & set(present)
        fused = [name for name, layer in present.items() if getattr(layer, "prelu", False)]
        assert fused == ["conv1", "ew_add1", "normalization2"]
        assert (
            step(archive, "PReLUs")["note"] == "3 as a part of the layer before them, 1 with a normalization"
        )
        sum_ = archive.quantization.tensors["ew_add1"]
        assert sum_.bits == bits and (reach is None or sum_.real_range[1] == pytest.approx(reach, rel=0.01))
        exact = mz("eval", "--har", path, "--target", "fp_optimized", "--data-path", photos)
        assert exact["snr_db"] is None or exact["snr_db"] >= 100
    assert mz("eval", "--har", path, "--target", "emulator", "--data-path", photos)["snr_db"] >= 20
    forms = ("--emit", "onnx", "--emit", "qdq", "--out", tmp_path / "out")
    verdict = mz("compile", "--har", path, *forms, "--verify", "--data-path", photos)
    assert verdict["verify"]["differing"] == 0
    assert replayed(path, *options).read_bytes() == path.read_bytes()


def test_a_target_whose_prelus_are_tables_keeps_them(photos: Path, tmp_path: Path) -> None:
    arch = tmp_path / "tables.yaml"
    arch.write_text("base:\n  - hw_archs/mz8.yaml\nname: tables\nprelu: table\n")
    options = with_prelus(tmp_path / "mine.onnx", photos)
    path = optimized(tmp_path, UNEQUALIZED, *options, "--hw-arch", arch)
    assert {"activation1", "activation2", "normalization1"} <= set(har.read(path).working_graph.by_name)
    forms = ("--emit", "onnx", "--out", tmp_path / "out", "--hw-arch", arch)
    assert mz("compile", "--har", path, *forms, "--verify", "--data-path", photos)["verify"]["differing"] == 0


def test_tiles_are_average_pools_of_the_integer_network(tmp_path: Path) -> None:
    network, text, _, _ = PASSES["tse"]
    path = optimized(tmp_path, UNEQUALIZED + text, "--calib-count", 16, "--optimization-level", 0, network)
    archive = har.read(path)
    pools = [layer for layer in archive.working_graph.layers if isinstance(layer, AvgPool)]
    assert [pool.kernel_shape[0] for pool in pools if pool.shape[2] == 1] == [3] * 4
    verdict = mz("compile", "--har", path, "--out", tmp_path / "out", "--verify")
    assert verdict["verify"]["differing"] == 0
