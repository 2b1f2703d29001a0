"""Code that is not ours reads the same ONNX: onnx's reference evaluator, and onnxruntime with its optimizer off."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv import _conv_implementation
from onnx.reference.ops.op_qlinear_conv import QLinearConv as ReferenceQLinearConv
from tests.emulator.strategies import CASES
from tests.emulator.test_layers import QUIET, settings

from mz.emulator import NumpySession
from mz.engines.lower_integer import integer_model

LEVELS = onnxruntime.GraphOptimizationLevel


class QLinearConv(OpRun):
    """onnx's own integer convolution, requantized in float32 as the design demands.

    Theirs multiplies in float64 and adds the zero point before it rounds.
    """

    op_domain = ""

    def _run(self, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, **attributes):
        names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
        settings = [attributes.get(name) or getattr(self, name) for name in names]
        centred = x.astype(np.int64) - int(x_zero)
        kernel = w.astype(np.int64) - int(w_zero[0])
        acc = _conv_implementation(centred, kernel, bias.astype(np.int64), *settings)
        m = (x_scale * w_scale / y_scale).reshape(1, -1, 1, 1)
        product = np.rint(acc.astype(np.int64).astype(np.float32) * m)
        return (np.clip(product + np.float32(y_zero), 0, 255).astype(np.uint8),)


def _model(case):
    return integer_model(case.graph, case.params, case.quantization)


def _reference(case, **options):
    """onnx has DequantizeLinear for opset 19 and above only; nothing that mz writes has another meaning there."""
    model = _model(case)
    model.opset_import[0].version = 19
    return ReferenceEvaluator(model, **options).run(None, case.feeds)[0]


def _evaluator_can(case):
    """Its ConvTranspose slices grouped kernels along the wrong axis."""
    return case.layer.kind != "deconv" or case.layer.groups == 1


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # its MaxPool pads uint8 with NaN
@pytest.mark.parametrize("kind", CASES)
def test_onnx_reference_evaluator(kind):
    @settings(max_examples=15, **QUIET)
    @given(CASES[kind].filter(_evaluator_can))
    def run(case):
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        got = _reference(case, new_ops=[QLinearConv])
        np.testing.assert_array_equal(got, expected)

    run()


def test_the_reference_evaluators_own_qlinearconv_differs_by_one_at_most():
    assert "res * (x_scale * w_scale / y_scale)" in __import__("inspect").getsource(ReferenceQLinearConv)

    @settings(max_examples=60, **QUIET)
    @given(CASES["conv"])
    def run(case):
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        got = _reference(case)
        assert np.abs(got.astype(int) - expected).max() <= 1

    run()


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("level", [LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC])
def test_onnxruntime_without_its_optimizer(kind, level):
    @settings(max_examples=25, **QUIET)
    @given(CASES[kind])
    def run(case):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            _model(case).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)[case.layer.name]
        np.testing.assert_array_equal(session.run(None, case.feeds)[0], expected)

    run()
