"""The bundled networks' integer ONNX by code that is not ours: onnx's reference evaluator, onnxruntime unoptimized."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from tests.emulator.test_independent import QLinearConv

from mz import data, flow, tasks, zoo
from mz.emulator import NumpySession
from mz.engines.lower_integer import integer_model
from mz.flow.options import ModelRef, OptimizeOptions

LEVELS = onnxruntime.GraphOptimizationLevel
IMAGES = 3


def prepared(network: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The integer ONNX with every layer as an output, images, and the emulator's integers."""
    options = OptimizeOptions(calib_count=16, optimization_level=0)
    archive = flow.optimize(ModelRef(model=network), options).archive
    assert archive.quantization is not None
    graph, params = archive.working_graph, archive.working_params
    config = zoo.load_network(network)
    dataset = data.open_evaluation(config, None, IMAGES)
    ((images, _),) = data.batches(dataset, tasks.load(config).preprocess_batch, IMAGES)
    feeds = {graph.inputs[0].name: images}
    taps = [layer.name for layer in graph.layers if not layer.host and layer not in graph.inputs]
    expected = NumpySession(graph, params, archive.quantization, taps).run(feeds)
    return integer_model(graph, params, archive.quantization, taps), feeds, expected


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet8_fashion", "mobilenet_v2_fashion", "mobilenet_v3_fashion"])
def test_every_layer_of_the_bundled_networks(network: str) -> None:
    model, feeds, expected = prepared(network)
    names = [output.name for output in model.graph.output]
    assert set(names) == set(expected)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for name, value in zip(names, session.run(names, feeds), strict=True):
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    model.opset_import[
        0
    ].version = 19  # it has no DequantizeLinear below; nothing that mz writes changes its meaning
    evaluator = ReferenceEvaluator(model, new_ops=[QLinearConv])
    for name, value in zip(names, evaluator.run(names, feeds), strict=True):
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
