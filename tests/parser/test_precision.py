"""Networks whose numbers are not float32: in half precision, with stored integers, or quantized as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.parser.networks import network, op, prove, weights

from mz.errors import UserError
from mz.parser import ParseResult, parse

X = ["N", 2, 8, 8]


def parsed(model: onnx.ModelProto, folder: Path) -> ParseResult:
    path = folder / "network.onnx"
    onnx.save(model, path)
    return parse(path, name="network")


@pytest.mark.parametrize("half", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_parsed_as_the_float32_network_of_the_same_numbers(
    tmp_path: Path, half: int
) -> None:
    kernel = np.round(8 * weights(3, 2, 3, 3)) / 8

    def model(kind: int) -> onnx.ModelProto:
        def stored(name: str, array: np.ndarray) -> onnx.TensorProto:
            return helper.make_tensor(name, kind, array.shape, array.reshape(-1))

        nodes = [
            op("Conv", "x w", "c"),
            op("Constant", "", "k", value=stored("", np.full((), 0.5))),
            op("Cast", "k", "h", to=kind),
            op("Mul", "c h", "m"),
            op("Relu", "m"),
        ]
        made = network(nodes, {"x": X})
        made.graph.initializer.append(stored("w", kernel))
        for info in (*made.graph.input, *made.graph.output):
            info.type.tensor_type.elem_type = kind
        return made

    found, expected = parsed(model(half), tmp_path), parsed(model(TensorProto.FLOAT), tmp_path)
    assert found.graph == expected.graph
    for name, arrays in expected.params.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(found.params[name][key], array)
    prove(model(half), tmp_path)


def test_a_damaged_array_in_half_precision_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    model = network([op("Conv", "x w")], {"x": X})
    model.graph.initializer.append(
        helper.make_tensor("w", TensorProto.FLOAT16, (3, 2, 3, 3), bytes(2 * 54), raw=True)
    )
    model.graph.initializer[0].raw_data = bytes(2 * 53)
    with pytest.raises(UserError, match=r"network.onnx: a stored array does not fit its shape"):
        parsed(model, tmp_path)


@pytest.mark.parametrize("opset", [13, 17])
def test_weights_stored_as_integers_are_dequantized(proven, opset: int) -> None:
    kernel = np.arange(-27, 27, dtype=np.int8).reshape(3, 2, 3, 3)
    scale = np.array([0.5, 0.25, 2.0], np.float32)
    constants = {"q": kernel, "s": scale, "z": np.zeros(3, np.int8)}
    nodes = [op("DequantizeLinear", "q s z", "w", axis=0), op("Conv", "x w")]
    result = proven(nodes, X, constants, opset=opset)
    (layer,) = result.graph.weighted
    np.testing.assert_array_equal(result.params[layer.name]["kernel"], kernel * scale.reshape(3, 1, 1, 1))


def test_a_quantized_network_is_answered_with_the_float_one(tmp_path: Path) -> None:
    nodes = [op("Identity", "x", "t0")]
    for i in range(9):
        nodes += [
            op("QuantizeLinear", f"t{i} s z", f"q{i}"),
            op("DequantizeLinear", f"q{i} s z", f"t{i + 1}"),
        ]
    constants = {"s": 0.1, "z": np.array(0, np.uint8)}
    with pytest.raises(UserError) as caught:
        parsed(network(nodes, {"x": X}, constants, outputs=["t9"]), tmp_path)
    message = str(caught.value)
    assert "QuantizeLinear_q7 and 1 more: no layer does this" in message
    assert "give the float network that this one was quantized from" in message


def test_a_network_of_integer_pixels_begins_behind_the_cast(tmp_path: Path) -> None:
    model = network([op("Cast", "x", "f", to=TensorProto.FLOAT), op("Relu", "f")], {"x": X})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(UserError, match=r"'x' holds uint8; .* --start-node-names"):
        parsed(model, tmp_path)
    prove(model, tmp_path, start_nodes=["Relu_y"], input_shapes={"f": X[1:]})
