"""The float lowering of every layer kind and function, and the sessions built on it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mz.engines.float_ort import FloatSession, HostSession
from mz.engines.lower_float import LOWERINGS, float_model, host_model
from mz.engines.original import OriginalSession
from mz.errors import UserError
from mz.graph import (
    LAYER_KINDS,
    Activation,
    Add,
    Conv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Reshape,
    Resize,
    Slice,
    Softmax,
    functions,
)

MAP = (3, 4, 5)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run_layer(layer, params=None, *feeds: np.ndarray) -> np.ndarray:
    """The output of one layer that reads inputs `a`, `b`, ... holding the feeds."""
    inputs = [
        Input(name=name, inputs=(), shape=feed.shape[1:]) for name, feed in zip("abc", feeds, strict=False)
    ]
    graph = Graph("one", (*inputs, layer), (layer.name,))
    session = FloatSession(graph, {layer.name: params} if params else {}, threads=1)
    return session.run(dict(zip("abc", feeds, strict=False)))[layer.name]


@pytest.mark.parametrize("kind", [kind for kind in LAYER_KINDS if kind != "input"])
def test_every_layer_kind_is_lowered(kind) -> None:
    assert kind in LOWERINGS, f"layer kind {kind!r} has no float lowering: see docs/adding-a-layer.md"


@pytest.mark.parametrize(
    ("function", "scaled"),
    [(name, False) for name in functions.ARRAYS]
    + [(n, s) for n in functions.FUNCTIONS for s in (False, True)],
)
def test_every_function_is_lowered(function, scaled) -> None:
    constants = {"clip": (-0.5, 0.8), "hard_sigmoid": (0.3, 0.4), "celu": (0.7,), "selu": (1.5, 1.1)}
    constants |= {"leaky_relu": (0.2,), "elu": (0.6,), "power": (1.5, 0.25, 0.7)}
    x = array(2, *MAP) * 3
    names = functions.SCALING if scaled else functions.ARRAYS.get(function, ())
    params = {name: array(3) for name in names}
    own = constants.get(function, ())
    affine = (1.0, 0.0) if function in functions.BY_CHANNEL else (-1.7, 0.4)
    layer = Activation(
        name="y", inputs=("a",), shape=MAP, function=function, constants=own, affine=affine, scaled=scaled
    )
    found = run_layer(layer, params, x)
    expected = functions.apply(function, x, own, functions.along_channels(params, 2), affine)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("function", sorted(functions.FUNCTIONS))
def test_functions_have_the_same_defaults(function) -> None:
    x = array(2, *MAP)
    found = run_layer(Activation(name="y", inputs=("a",), shape=MAP, function=function), None, x)
    np.testing.assert_allclose(found, functions.apply(function, x), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "clip", [(-math.inf, math.inf), (0, math.inf), (0, 6), (-math.inf, 0.5), (-0.5, 0.5)]
)
def test_bounds(clip) -> None:
    a, b = array(2, *MAP), array(2, *MAP, seed=1)
    found = run_layer(Add(name="y", inputs=("a", "b"), shape=MAP, clip=clip), None, a, b)
    np.testing.assert_array_equal(found, np.clip(a + b, *np.asarray(clip, np.float32)))


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
def test_dense_over_the_last_axis(shape) -> None:
    x, kernel, bias = array(2, *shape), array(5, 7, seed=1), array(5, seed=2)
    layer = Dense(name="y", inputs=("a",), shape=(*shape[:-1], 5))
    np.testing.assert_allclose(
        run_layer(layer, {"kernel": kernel, "bias": bias}, x), x @ kernel.T + bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("size", "out"), [(3, 7), (7, 3), (10, 49), (49, 10), (11, 13), (41, 100)])
def test_resize_reaches_its_shape(size, out) -> None:
    layer = Resize(
        name="y", inputs=("a",), shape=(1, out, out), mode="nearest", scales=(out / size, out / size)
    )
    assert run_layer(layer, None, array(1, 1, size, size)).shape == (1, 1, out, out)


def test_slice() -> None:
    x = array(2, *MAP)
    layer = Slice(
        name="y", inputs=("a",), shape=(1, 2, 3), starts=(1, 0, 0), stops=(2, 4, 5), steps=(1, 2, 2)
    )
    np.testing.assert_array_equal(run_layer(layer, None, x), x[:, 1:2, ::2, ::2])


LAYERS = (
    Input(name="input_layer1", inputs=(), shape=MAP),
    Conv(name="conv1", inputs=("input_layer1",), shape=(4, 4, 5), kernel_shape=(1, 1), clip=(0.0, 6.0)),
    GlobalAvgPool(name="avgpool1", inputs=("conv1",), shape=(4, 1, 1)),
    Reshape(name="reshape1", inputs=("avgpool1",), shape=(4,)),
    Softmax(name="softmax1", inputs=("reshape1",), shape=(4,), host=True),
)
GRAPH = Graph("small", LAYERS, ("softmax1", "conv1"))
PARAMS = {"conv1": {"kernel": array(4, 3, 1, 1), "bias": array(4)}}


def test_tensors_carry_the_names_of_layers() -> None:
    model = float_model(GRAPH, PARAMS)
    produced = {name for node in model.graph.node for name in node.output}
    assert {layer.name for layer in LAYERS[1:]} <= produced
    assert [entry.name for entry in model.graph.output] == ["softmax1", "conv1"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_taps_follow_the_outputs_each_once() -> None:
    session = FloatSession(GRAPH, PARAMS, taps=["reshape1", "conv1", "input_layer1"], threads=1)
    x = array(3, *MAP)
    found = session.run({"input_layer1": x})
    assert list(found) == ["softmax1", "conv1", "reshape1", "input_layer1"]
    assert found["input_layer1"] is x
    np.testing.assert_allclose(found["reshape1"], found["conv1"].mean((2, 3)), rtol=1e-5)


def test_the_host_part_alone() -> None:
    whole = FloatSession(GRAPH, PARAMS, taps=GRAPH.accelerator_outputs(), threads=1)
    found = whole.run({"input_layer1": array(3, *MAP)})
    accelerator = {name: found[name] for name in GRAPH.accelerator_outputs()}
    outputs = HostSession(GRAPH, PARAMS, threads=1).run(accelerator)
    assert list(outputs) == ["softmax1", "conv1"]
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, found[name])
    model = host_model(GRAPH, PARAMS)
    assert model is not None and [node.op_type for node in model.graph.node] == ["Softmax"]


def test_no_host_part() -> None:
    graph = Graph("plain", LAYERS[:-1], ("reshape1",))
    assert host_model(graph, PARAMS) is None
    value = array(2, 4)
    assert HostSession(graph, PARAMS).run({"reshape1": value}) == {"reshape1": value}


def original(path: Path, batch: int | str, node: onnx.NodeProto) -> Path:
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in "xy"]
    graph = helper.make_graph([node], "original", shapes[:1], shapes[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("batch", [1, "N"])
def test_the_original_takes_any_batch(tmp_path, batch) -> None:
    path = original(tmp_path / "original.onnx", batch, helper.make_node("Relu", ["x"], ["y"]))
    x = array(4, 3)
    np.testing.assert_array_equal(OriginalSession(path).run({"x": x})["y"], np.maximum(x, 0))


def test_an_original_that_cannot_run_is_named(tmp_path) -> None:
    path = original(tmp_path / "original.onnx", 1, helper.make_node("NoSuchThing", ["x"], ["y"]))
    with pytest.raises(UserError, match=r"original\.onnx: onnxruntime cannot run"):
        OriginalSession(path)
