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
from mz.parser.integer_inputs import integer_inputs

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


def of_integers(nodes: list[onnx.NodeProto], kind: int) -> onnx.ModelProto:
    """A network that casts its input, whose numbers stand channels last, to floats and calls that f."""
    moved = [op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Cast", "t", "f", to=TensorProto.FLOAT)]
    model = network([*moved, *nodes], {"x": ["N", 8, 8, 2]}, {"w": weights(3, 2, 3, 3)})
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64])
def test_integers_that_are_only_cast_are_floats(tmp_path: Path, kind: int) -> None:
    model = of_integers([op("Conv", "f w")], kind)
    expected = of_integers([op("Conv", "f w")], TensorProto.FLOAT)
    onnx.save(model, tmp_path / "pixels.onnx")
    assert integer_inputs(tmp_path / "pixels.onnx") == {"x"}
    found = prove(model, tmp_path)
    assert found.graph == prove(expected, tmp_path).graph
    assert found.graph.inputs[0].shape == (8, 8, 2)
    assert integer_inputs(tmp_path / "network.onnx") == set()


@pytest.mark.parametrize(
    "nodes",
    [
        [op("Cast", "x", "i", to=TensorProto.INT32), op("Add", "f f")],
        [op("Mul", "x x", "i"), op("Add", "f f")],
        [op("Gather", "f x", axis=0)],
        [op("Identity", "x", "y")],
    ],
)
def test_integers_that_are_something_else_are_told_of_the_start_node(
    tmp_path: Path, nodes: list[onnx.NodeProto]
) -> None:
    with pytest.raises(UserError, match=r"'x' holds uint8; .* --start-node-names"):
        parsed(of_integers(nodes, TensorProto.UINT8), tmp_path)


def test_signed_bytes_are_no_pixels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'x' holds int8; .* --start-node-names"):
        parsed(of_integers([op("Conv", "f w")], TensorProto.INT8), tmp_path)
    prove(
        of_integers([op("Conv", "f w")], TensorProto.INT8),
        tmp_path,
        start_nodes=["Conv_y"],
        input_shapes={"f": X[1:]},
    )
