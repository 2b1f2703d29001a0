"""Every layer kind and precision: naive loops == numpy kernel == integers of the ONNX file in onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.emulator import naive
from tests.emulator.strategies import CASES, SCALES, Case, fill, tensors

from mz.emulator import NumpySession
from mz.emulator.kernels import KERNELS, run_kernel
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_integer import LOWERINGS
from mz.graph import LAYER_KINDS, Graph, Input, Quantization

HOST_KINDS = {"softmax", "host_op"}
QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


def test_every_kind_has_a_kernel_a_lowering_and_a_property_test():
    kinds = set(LAYER_KINDS) - HOST_KINDS - {"input"}
    assert set(KERNELS) == kinds
    assert set(LOWERINGS) == kinds
    assert set(CASES) == kinds


def check(case: Case) -> None:
    layer = case.layer
    inputs = [case.integers[name] for name in layer.inputs]
    expected = naive.run(case.graph, layer, case.params, case.quantization, inputs)
    session = NumpySession(case.graph, case.params, case.quantization)
    kernel = run_kernel(layer, session._constants[layer.name], [x.astype(np.int32) for x in inputs])
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(session.run(case.feeds)[layer.name], expected)
    engine = IntegerOrtSession(case.graph, case.params, case.quantization, threads=1)
    np.testing.assert_array_equal(engine.run(case.feeds)[layer.name], expected)


@pytest.mark.parametrize("kind", CASES)
def test_three_roads_agree(kind):
    @settings(max_examples=40, **QUIET)
    @given(CASES[kind])
    def run(case):
        check(case)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_three_roads_agree_at_length(kind):
    """16 kinds with 1,300 cases each."""

    @settings(max_examples=1300, **QUIET)
    @given(CASES[kind])
    def run(case):
        check(case)

    run()


def _input_only(tensor, shape):
    graph = Graph("inputs", (Input(name="x", inputs=(), shape=shape),), ("x",))
    quantization = Quantization({"x": tensor})
    return NumpySession(graph, {}, quantization), IntegerOrtSession(graph, {}, quantization, threads=1)


@settings(max_examples=60, **QUIET)
@given(tensors(), st.sampled_from(["random", "extremes"]), st.integers(0, 99))
def test_inputs_return_the_integers_they_stand_for(tensor, pattern, seed):
    q = fill((2, 50), 0, tensor.q_max, tensor.zero_point, pattern, seed)
    for session in _input_only(tensor, (50,)):
        np.testing.assert_array_equal(session.run({"x": tensor.dequantize(q)})["x"], q)


@settings(max_examples=60, **QUIET)
@given(tensors(), SCALES, st.integers(0, 99))
def test_inputs_of_any_value(tensor, spread, seed):
    rng = np.random.default_rng(seed)
    ties = (rng.integers(-40, 40, 40) + 0.5) * float(tensor.scale)
    extremes = [np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-45]
    x = np.concatenate([rng.normal(0, spread, 40), ties, extremes]).astype(np.float32)[None]
    expected = [naive.quantize(value, tensor) for value in x[0]]
    for session in _input_only(tensor, x.shape[1:]):
        np.testing.assert_array_equal(session.run({"x": x})["x"][0], expected)
