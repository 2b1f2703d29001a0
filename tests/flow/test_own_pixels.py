"""Which networks take pixels of their own accord, and that nobody who feeds them notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.flow.test_diff import first_images

from mz import archive as har
from mz import flow
from mz.emulator import NumpySession
from mz.engines.native import open_native
from mz.flow.compiled import c_files
from mz.flow.options import ModelRef
from mz.flow.own_pixels import own_normalization
from mz.graph import AvgPool, Conv, Graph, Input, Pixels, Precision
from mz.optimize import device_input, own_pixels
from mz.quantize import ActivationRange, Recipe
from mz.zoo import Preprocessing

IMAGENET = Preprocessing(decode="rgb", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def network(pool: bool = False) -> Graph:
    image = Input(name="image", inputs=(), shape=(3, 8, 8))
    conv = Conv(name="conv1", inputs=("image",), shape=(4, 8, 8), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    small = AvgPool(name="small", inputs=("image",), shape=(3, 4, 4), kernel_shape=(2, 2), strides=(2, 2))
    return (
        Graph("net", (image, conv, small), ("conv1", "small"))
        if pool
        else Graph("net", (image, conv), ("conv1",))
    )


def preprocessing(mean: float, std: float) -> Preprocessing:
    return Preprocessing(decode="rgb", mean=(mean,), std=(std,))


def test_means_and_deviations_by_channel_are_taken_over() -> None:
    assert own_normalization(network(), Recipe(), IMAGENET) == Pixels(IMAGENET.mean, IMAGENET.std)


def test_half_a_pixel_is_taken_over_for_every_channel() -> None:
    found = own_normalization(network(), Recipe(), preprocessing(127.5, 127.5))
    assert found == Pixels((127.5,) * 3, (127.5,) * 3)


@pytest.mark.parametrize(
    ("graph", "recipe", "given"),
    [
        (network(), Recipe(), preprocessing(127.0, 128.0)),  # pixels as it is
        (network(pool=True), Recipe(), IMAGENET),
        (network(), Recipe(), preprocessing(-3.5, 1.0)),  # no pixel stands for zero
        (network(), Recipe(precision=Precision(4, 4)), IMAGENET),
        (network(), Recipe(layer_ranges={"image": ActivationRange("manual", (-2.0, 2.0))}), IMAGENET),
    ],
)
def test_others_are_fed_as_before(graph: Graph, recipe: Recipe, given: Preprocessing) -> None:
    assert own_normalization(graph, recipe, given) is None


def test_integers_are_pixels_and_the_compiled_file_takes_images(resnet8_har: Path, tmp_path: Path) -> None:
    archive = har.read(resnet8_har)
    assert archive.quantization is not None
    tensor = archive.quantization.tensors["input_layer1"]
    assert (tensor.scale, tensor.zero_point, tensor.bits) == (1.0, 0, 8)
    images = first_images("resnet8_fashion", 4)
    pixels = {name: device_input(archive.input_form, x) for name, x in images.items()}
    assert all((x == np.rint(x)).all() and x.max() > 100 for x in pixels.values())
    behind = own_pixels(archive.input_form)
    assert behind == Pixels(mean=(72.94,), std=(90.02,))
    np.testing.assert_allclose(behind.normalized(pixels)["input_layer1"], images["input_layer1"], atol=1e-5)

    noise = np.random.default_rng(0).normal(0, 1, (64, 1, 32, 32)).astype(np.float32)  # and no pixel is whole
    judge = NumpySession(archive.working_graph, archive.working_params, archive.quantization)
    wanted_integers = judge.run({"input_layer1": device_input(archive.input_form, noise)})
    compiled = flow.compile_model(ModelRef(har=resnet8_har), out=tmp_path, verify=True)
    plain = onnxruntime.InferenceSession(
        str(tmp_path / "resnet8_fashion.onnx"), providers=["CPUExecutionProvider"]
    )
    found_integers = plain.run(None, {"input_layer1": noise})
    for output, values in zip(plain.get_outputs(), found_integers, strict=True):
        np.testing.assert_array_equal(values, wanted_integers[output.name])
    native = open_native(
        c_files(compiled.archive.artefacts), "resnet8_fashion"
    )  # fed images, as any user would
    for name, values in native.run({"input_layer1": noise}).items():
        np.testing.assert_array_equal(values, wanted_integers[name])
    assert compiled.verify is not None and compiled.verify["differing"] == 0
    real = onnxruntime.InferenceSession(
        str(tmp_path / "resnet8_fashion.qdq.onnx"), providers=["CPUExecutionProvider"]
    )
    expected = onnxruntime.InferenceSession(_original(tmp_path), providers=["CPUExecutionProvider"])
    (found,), (wanted,) = (
        s.run(None, {s.get_inputs()[0].name: images["input_layer1"]}) for s in (real, expected)
    )
    assert (found.argmax(1) == wanted.argmax(1)).all()


def _original(folder: Path) -> str:
    """The float network as parsed, in ONNX."""
    from mz.engines.lower_float import float_model

    archive = flow.parse(ModelRef(model="resnet8_fashion"))
    path = folder / "float.onnx"
    path.write_bytes(float_model(archive.graph, archive.params).SerializeToString())
    return str(path)
