"""The QDQ file: valid ONNX, the same bytes every time, run by onnxruntime, and near to the emulator's integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.compiler.test_onnx_emitter import images, network, quantized
from tests.emulator.strategies import CASES, Case

from mz.compiler.emitters import EMITTERS, Source
from mz.compiler.emitters.qdq import emit, qdq_model
from mz.emulator import NumpySession
from mz.engines.artefact import QdqSession
from mz.graph import Conv, Graph, HostOp, Input, Params, Quantization, TensorQuant, WeightQuant
from mz.report.statistics import SnrMeter


@pytest.mark.parametrize(
    ("precision", "opset", "least_db"),
    [("a8_w8", 17, 30), ("a8_w4", 21, 30), ("a16_w8", 21, 40), ("a4_w4", 21, 12), ("a16_w16", 21, 60)],
)
def test_every_kind_of_layer_is_near_to_the_emulator(precision: str, opset: int, least_db: float):
    graph, params, quantization = quantized(precision)
    content = emit(graph, params, quantization)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [opset]
    fresh = images(32, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)
    found = QdqSession(content, graph.accelerator_outputs()).run(fresh)
    meter = SnrMeter()
    for name, integers in expected.items():
        meter.update(quantization.tensors[name].dequantize(integers), found[name])
    assert meter.db > least_db
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == list(graph.outputs)
    (soft,) = session.run(None, fresh)
    np.testing.assert_allclose(soft.sum(axis=-1), 1, atol=1e-5)


def test_the_same_network_gives_the_same_bytes_and_carries_its_metadata():
    source = Source("net", *quantized("a8_w8"), {"mz_hw_arch": "mz8"})
    for form, make in EMITTERS.items():
        assert make(source) == make(source), form
        if form == "c":
            continue  # many files, see test_c99_project.py
        ((path, content),) = make(source).items()
        assert path.startswith("net.")
        model = onnx.load_from_string(content)
        assert {entry.key: entry.value for entry in model.metadata_props}["mz_hw_arch"] == "mz8"


def test_weights_are_integers_and_four_bit_ones_take_half_a_byte():
    graph, params, quantization = quantized("a8_w4")
    model = qdq_model(graph, params, quantization)
    kinds = {entry.name: entry.data_type for entry in model.graph.initializer}
    kernels = {name: kind for name, kind in kinds.items() if name.endswith("kernel/integers")}
    assert len(kernels) == len(quantization.weights) and set(kernels.values()) == {onnx.TensorProto.INT4}
    assert len(emit(graph, params, quantization)) < len(emit(*quantized("a8_w8"))) - 0.45 * sum(
        weight.kernel.size for weight in quantization.weights.values()
    )


@given(st.one_of(*CASES.values()))
@settings(max_examples=60)
def test_single_layers_of_every_kind_and_precision(case: Case):
    """Only ties and last digits of floats may differ: one step, for values that 8 bits hold exactly enough.

    Not where a step is below 1e-6: there onnxruntime's optimizer takes a clip for one that the integers make anyway
    (1.32: [0, 6] before integers that begin at -9e-8), which unoptimized it does not.
    """
    assume(case.quantization.tensors[case.layer.name].scale >= 1e-6)
    content = emit(case.graph, case.params, case.quantization)
    expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)
    name, quantization = case.layer.name, case.quantization
    quant = quantization.tensors[name]
    found = QdqSession(content, (name,)).run(case.feeds)[name]
    assert found.shape == expected[name].shape
    wide = any(entry.bits > 8 for entry in (*quantization.tensors.values(), *quantization.weights.values()))
    if not wide:  # float32 does not hold sums of 16-bit products
        steps = np.abs((found - quant.dequantize(expected[name])) / quant.scale)
        assert steps.max(initial=0) <= 1.01


@pytest.mark.parametrize("largest", [2**31 - 1, 2**31, 2**32 - 1, 2**40])
def test_biases_beyond_32_bits_have_coarser_steps(largest: int):
    """onnxruntime's optimizer makes int32 of a bias in float32, in the scale of the products: these would wrap."""
    layers = (
        Input(name="x", inputs=(), shape=(1, 3, 3)),
        Conv(name="c", inputs=("x",), shape=(2, 3, 3), kernel_shape=(1, 1)),
    )
    kernel = np.array([32767, -20000], np.int16).reshape(2, 1, 1, 1)
    x = TensorQuant(np.float32(2.0**-12), 30000, 16)
    y = TensorQuant(np.float32(largest * 2.0**-37), 32768, 16)
    weight = WeightQuant(kernel, np.full(2, 2.0**-12, np.float32), np.array([largest, -largest // 3]), 16)
    graph, quantization = Graph("g", layers, ("c",)), Quantization({"x": x, "c": y}, {"c": weight})
    values = np.random.default_rng(0).uniform(-7, 8, (2, 1, 3, 3)).astype(np.float32)
    expected = NumpySession(graph, {}, quantization).run({"x": values})["c"]
    assert 0 < expected.min() < expected.max() < y.q_max
    found = QdqSession(emit(graph, {}, quantization), ("c",)).run({"x": values})["c"]
    np.testing.assert_allclose(found, y.dequantize(expected), atol=2 * float(y.scale))


def test_reductions_on_the_host_at_the_newer_opset():
    layers = (
        Input(name="x", inputs=(), shape=(2, 3, 3)),
        Conv(name="c", inputs=("x",), shape=(2, 3, 3), kernel_shape=(1, 1)),
        HostOp(
            name="m", inputs=("c",), shape=(2, 1, 1), host=True, operator="ReduceMean",
            attributes=(("axes", (2, 3)), ("keepdims", 1)),
        ),
    )  # fmt: skip
    graph = Graph("g", layers, ("m",))
    params: Params = {"c": {"kernel": np.ones((2, 2, 1, 1), np.float32), "bias": np.zeros(2, np.float32)}}
    tensor = TensorQuant(np.float32(0.5), 0, 16)
    weight = WeightQuant(np.ones((2, 2, 1, 1), np.int8), np.ones(2, np.float32), np.zeros(2, np.int64), 8)
    content = emit(graph, params, Quantization({"x": tensor, "c": tensor}, {"c": weight}))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 2, 3, 3), 1.5, np.float32)})
    assert found.shape == (1, 2, 1, 1) and np.all(found == 3)


def test_the_network_tried_has_host_layers():
    assert any(layer.host for layer in network(0)[0].layers)
