"""The start-up test of the runtime's kernels: what it finds here, and what happens where a kernel fails."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
from tests.engines.test_integer_ort import network

from mz.emulator import NumpySession, numerics
from mz.engines import self_test
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_integer import integer_model
from mz.engines.lower_integer_tensors import FLOAT_ROAD, PORTABLE, Kernels
from mz.errors import UserError

HONEST = self_test.run_model
PORTABLE_FAMILIES = [name for name in self_test.FAMILIES if getattr(PORTABLE, name)]


def operators(model):
    return {node.op_type for node in model.graph.node}


def kernel_types(model):
    """The element types of QLinearConv's kernels."""
    types = {entry.name: entry.data_type for entry in model.graph.initializer}
    return {types[node.input[3]] for node in model.graph.node if node.op_type == "QLinearConv"}


def breaking(family):
    """A runner that gets one family's operators wrong, as a processor would whose kernels saturate."""

    def broken(model):
        if family in ("unsigned_conv", "signed_conv", "any_signed_conv"):
            return (2 if family == "unsigned_conv" else 3) in kernel_types(model)
        return {
            "quantize": "QuantizeLinear" in operators(model) and "QLinearConv" not in operators(model),
            "elementwise": {"DequantizeLinear", "Add"} <= operators(model),
            "average": {"DequantizeLinear", "ReduceSum"} <= operators(model),
            "float_table": "HardSigmoid" in operators(model),
            "matrix": bool({"QLinearMatMul", "MatMulInteger"} & operators(model)),
        }[family]

    def run(model, feeds, chosen):
        found = HONEST(model, feeds, chosen)
        if broken(model):
            found = {name: np.minimum(value, 127) for name, value in found.items()}
        return found

    return run


def test_every_portable_kernel_is_exact_here():
    chosen, kernels, notes = self_test.trusted_kernels(["CPUExecutionProvider"])
    assert chosen == [self_test.CPU]
    assert notes == ()
    assert all(getattr(kernels, name) for name in PORTABLE_FAMILIES)


@pytest.mark.parametrize(("family", "probe"), [*self_test._probes()])
def test_a_probe_is_built_of_the_kernels_that_it_judges(family, probe):
    graph, quantization, feeds = probe
    with_family = integer_model(graph, {}, quantization, kernels=self_test._only(family))
    without = integer_model(graph, {}, quantization, kernels=FLOAT_ROAD)
    assert with_family.SerializeToString() != without.SerializeToString()
    expected = NumpySession(graph, {}, quantization).run(feeds)
    found = HONEST(without, feeds, [self_test.CPU])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        if value.size > 100:
            assert len(np.unique(value)) > 8


def test_the_extremes_reach_16_bit_saturation():
    """Two products of 127 x 255 are more than 16 bits hold; two of 64 x 255 are not, and nor is anything portable."""
    for top, beyond in ((127, True), (64, False)):
        graph, quantization, feeds = self_test._linear_probe(top)
        layer = graph["y0"]
        kernel = quantization.weights["y0"].kernel[:, :, 0, 0].astype(int)
        x = quantization.tensors[layer.inputs[0]]
        q = numerics.quantize(feeds[layer.inputs[0]], x.scale, x.zero_point, x.bits)
        pairs = kernel[:, :66].reshape(len(kernel), 33, 2) * q[0, :66, 0, 0].reshape(33, 2)
        assert (np.abs(pairs.sum(axis=2)).max() > 32767) == beyond


@pytest.mark.parametrize("family", PORTABLE_FAMILIES)
def test_a_kernel_that_fails_is_replaced_by_an_exact_one(family, monkeypatch):
    monkeypatch.setattr(self_test, "run_model", breaking(family))
    chosen, kernels, notes = self_test.trusted_kernels(["CPUExecutionProvider"])
    assert chosen == [self_test.CPU]
    assert not getattr(kernels, family)
    assert any(family.replace("_", " ") in note for note in notes)
    graph, quantization = network(8)
    taps = [layer.name for layer in graph.layers if not layer.host]
    feeds = {"x": np.random.default_rng(1).normal(0, 0.5, (5, 3, 10, 10)).astype(np.float32)}
    session = IntegerOrtSession(graph, {}, quantization, taps)
    assert session.notes == notes
    expected = NumpySession(graph, {}, quantization, taps).run(feeds)
    for name, value in session.run(feeds).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("family", PORTABLE_FAMILIES)
def test_a_family_left_out_is_not_in_the_graph(family):
    probes = {"float_table": self_test._table_probe, "matrix": self_test._matrix_probe}
    graph, quantization = probes[family]()[:2] if family in probes else network(8)
    kernels = dataclasses.replace(PORTABLE, **{family: False})
    model, usual = (
        integer_model(graph, {}, quantization, kernels=kernels),
        integer_model(graph, {}, quantization),
    )
    assert model.SerializeToString() != usual.SerializeToString()
    if family == "signed_conv":
        assert kernel_types(model) == {2}
    if family == "unsigned_conv":
        assert "QLinearConv" not in operators(model)


def test_signed_weights_everywhere_where_the_processor_adds_in_32_bits():
    graph, quantization = network(8)
    model = integer_model(graph, {}, quantization, kernels=Kernels(any_signed_conv=True))
    assert kernel_types(model) == {3}


def test_a_processor_without_exact_convolutions_is_refused(monkeypatch):
    def run(model, feeds, chosen):
        return {name: value + 1 for name, value in HONEST(model, feeds, chosen).items()}

    monkeypatch.setattr(self_test, "run_model", run)
    with pytest.raises(UserError, match="--engine numpy"):
        self_test.trusted_kernels(["CPUExecutionProvider"])


def test_an_operator_that_the_runtime_lacks_counts_as_wrong(monkeypatch):
    def run(model, feeds, chosen):
        if "QLinearConv" in operators(model):
            raise RuntimeError("NOT_IMPLEMENTED")
        return HONEST(model, feeds, chosen)

    monkeypatch.setattr(self_test, "run_model", run)
    _, kernels, _ = self_test.trusted_kernels(["CPUExecutionProvider"])
    assert not kernels.unsigned_conv
    assert kernels.elementwise


GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def test_cuda_takes_the_float_road_without_rounding_shortcuts(monkeypatch):
    asked = []

    def run(model, feeds, chosen):
        asked.append(chosen)
        assert "QLinearConv" not in operators(model)
        return HONEST(model, feeds, [self_test.CPU])

    monkeypatch.setattr(self_test, "run_model", run)
    chosen, kernels, notes = self_test.trusted_kernels(GPU)
    assert (chosen, kernels, notes) == ([self_test.CUDA, self_test.CPU], FLOAT_ROAD, ())
    assert asked == [[self_test.CUDA, self_test.CPU]]
    assert self_test.CUDA[1]["use_tf32"] == "0"


def test_cuda_that_rounds_gives_way_to_the_processor(monkeypatch):
    def run(model, feeds, chosen):
        found = HONEST(model, feeds, [self_test.CPU])
        return {n: v ^ 1 for n, v in found.items()} if chosen != [self_test.CPU] else found

    monkeypatch.setattr(self_test, "run_model", run)
    chosen, kernels, notes = self_test.trusted_kernels(GPU)
    assert chosen == [self_test.CPU]
    assert kernels.unsigned_conv
    assert "CUDA" in notes[0]


def test_a_session_on_cuda_runs_whole_batches_on_its_provider(monkeypatch):
    opened = []

    class Session:
        def __init__(self, model, options, providers):
            opened.append(providers)
            self.inner = HONEST_SESSION(model, options, providers=[self_test.CPU])

        def __getattr__(self, name):
            return getattr(self.inner, name)

    HONEST_SESSION = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU)
    monkeypatch.setattr(self_test, "run_model", lambda model, feeds, chosen: HONEST(model, feeds, chosen))
    graph, quantization = network(8)
    feeds = {"x": np.random.default_rng(1).normal(0, 0.5, (9, 3, 10, 10)).astype(np.float32)}
    found = IntegerOrtSession(graph, {}, quantization).run(feeds)["fc1"]
    assert opened and all(providers == [self_test.CUDA, self_test.CPU] for providers in opened)
    np.testing.assert_array_equal(found, NumpySession(graph, {}, quantization).run(feeds)["fc1"])
