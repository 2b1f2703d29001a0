"""How two runs are held against each other, and compiled files that were tampered with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.engines.test_integer_ort import network

from mz.emulator import NumpySession
from mz.engines.artefact import ArtefactSession
from mz.engines.compare import Comparison
from mz.engines.lower_integer import integer_model
from mz.errors import UserError


def batch(first, second):
    return {"a": np.full((2, 3, 4), first, np.int32), "b": np.full((2, 5), second, np.uint8)}


def test_equal_runs_have_no_difference():
    comparison = Comparison()
    comparison.update(batch(3, 200), batch(3, 200))
    assert (comparison.images, comparison.integers, comparison.differing) == (2, 34, 0)
    assert comparison.first_difference is None


def test_the_first_difference_of_the_first_layer_is_named():
    comparison = Comparison()
    comparison.update(batch(3, 200), batch(3, 200))
    found = batch(3, 200)
    found["a"][1, 2, 3] = 9
    found["b"][0, 4] = 199
    comparison.update(batch(3, 200), found)
    worse = batch(4, 200)
    comparison.update(batch(3, 200), worse)
    first = comparison.first_difference
    assert first is not None
    assert (first.layer, first.image, first.index) == ("a", 3, (2, 3))
    assert (first.expected, first.found, first.differing, first.total) == (3, 9, 1, 24)
    assert comparison.layers == {"a": 25, "b": 1}
    assert comparison.first["b"].expected == 200
    assert str(first) == "a: image 3, index [2, 3]: 3 expected, 9 found; 1 of 24 integers differ"


def test_the_graphs_order_decides_and_not_the_time():
    comparison = Comparison()
    later = batch(3, 1)
    comparison.update(batch(3, 2), later)
    comparison.update(batch(3, 2), batch(4, 2))
    assert comparison.first_difference is not None
    assert comparison.first_difference.layer == "a"


def test_layers_of_other_shapes_differ_throughout():
    comparison = Comparison()
    comparison.update({"a": np.zeros((2, 3))}, {"a": np.zeros((2, 4)), "b": np.zeros((2, 2))})
    assert comparison.layers == {"a": 6}


@pytest.mark.parametrize("bits", [8, 16])
def test_a_compiled_file_shows_its_layers(bits):
    graph, quantization = network(bits)
    taps = [layer.name for layer in graph.layers if not layer.host]
    model = integer_model(graph, {}, quantization)
    feeds = {"x": np.random.default_rng(1).normal(0, 0.5, (3, 3, 10, 10)).astype(np.float32)}
    expected = NumpySession(graph, {}, quantization, taps).run(feeds)
    session = ArtefactSession(model, graph, {}, quantization, taps)
    found = session.run(feeds)
    assert set(found) == set(taps)
    assert [output.name for output in model.graph.output] == ["fc1"]
    comparison = Comparison()
    comparison.update(expected, found)
    assert comparison.differing == 0 and len(comparison.layers) == len(taps)
    kernel = next(entry for entry in model.graph.initializer if entry.name.startswith("conv2_kernel"))
    changed = np.ascontiguousarray(numpy_helper.to_array(kernel)[::-1])
    kernel.CopyFrom(numpy_helper.from_array(changed, kernel.name))
    comparison = Comparison()
    comparison.update(expected, ArtefactSession(model, graph, {}, quantization, taps).run(feeds))
    assert comparison.first_difference is not None
    assert comparison.first_difference.layer == "conv2"


def test_a_file_of_another_network_is_refused():
    graph, quantization = network(8)
    model = integer_model(graph, {}, quantization)
    model.graph.output[0].name = "other"
    with pytest.raises(UserError, match="no output fc1"):
        ArtefactSession(model, graph, {}, quantization)
    model = integer_model(graph, {}, quantization)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(UserError, match="onnxruntime refuses"):
        ArtefactSession(onnx.ModelProto.FromString(model.SerializeToString()), graph, {}, quantization)
