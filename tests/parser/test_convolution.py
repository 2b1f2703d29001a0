"""Layers with weights: every attribute of Conv and ConvTranspose, Gemm, MatMul."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, network, op, prove, weights

from mz.errors import UserError


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_conv_with_any_attributes(data: st.DataObject) -> None:
    pick = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, per_group, spread = pick(1, 3), pick(1, 2), pick(1, 2)
    kernel, dilations = (pick(1, 3), pick(1, 3)), (pick(1, 2), pick(1, 2))
    attributes = {"group": groups, "dilations": dilations, "strides": [pick(1, 3), pick(1, 3)]}
    auto_pad = data.draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad == "NOTSET":
        attributes["pads"] = [pick(0, 2) for _ in range(4)]
    else:
        attributes |= {"auto_pad": auto_pad, "dilations": (1, 1)}  # onnxruntime refuses to dilate here
    constants = {"w": weights(groups * spread, per_group, *kernel), "b": weights(groups * spread)}
    inputs = "x w b" if pick(0, 1) else "x w"
    shape = ["N", groups * per_group, pick(5, 9), pick(5, 9)]
    constants = {name: constants[name] for name in inputs.split()[1:]}
    model = network([op("Conv", inputs, **attributes)], {"x": shape}, constants)
    with tempfile.TemporaryDirectory() as folder:
        result = prove(model, Path(folder))
    assert kinds(result) == ["conv"]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_deconv_with_any_attributes(data: st.DataObject) -> None:
    pick = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, per_group, spread = pick(1, 2), pick(1, 2), pick(1, 2)
    kernel, strides = (pick(2, 4), pick(2, 4)), (pick(1, 3), pick(1, 3))
    attributes = {"group": groups, "strides": strides, "dilations": (pick(1, 2), pick(1, 2))}
    attributes["output_padding"] = [pick(0, strides[0] - 1), pick(0, strides[1] - 1)]
    attributes["pads"] = [pick(0, 1) for _ in range(4)]
    constants = {"w": weights(groups * per_group, spread, *kernel), "b": weights(groups * spread)}
    shape = ["N", groups * per_group, pick(3, 6), pick(3, 6)]
    model = network([op("ConvTranspose", "x w b", **attributes)], {"x": shape}, constants)
    with tempfile.TemporaryDirectory() as folder:
        result = prove(model, Path(folder))
    assert kinds(result) == ["deconv"]


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("out", [(9, 11), (10, 10)])
def test_deconv_with_output_shape(proven, auto_pad, out) -> None:
    node = op("ConvTranspose", "x w", strides=[2, 2], output_shape=out, auto_pad=auto_pad)
    result = proven(node, [1, 2, 5, 5], {"w": weights(2, 3, 4, 4)})
    assert result.graph["deconv1"].shape == (3, *out)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_deconv_with_automatic_pads(proven, auto_pad) -> None:
    node = op("ConvTranspose", "x w", strides=[2, 2], auto_pad=auto_pad)
    proven(node, [1, 2, 5, 5], {"w": weights(2, 3, 3, 3)})


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (1,), ()])
def test_gemm(proven, trans_a, trans_b, bias) -> None:
    constants = {"w": weights(*((5, 4) if trans_b else (4, 5)))} | (
        {} if bias is None else {"b": weights(*bias)}
    )
    inputs = "x w" if bias is None else "x w b"
    nodes = [op("Gemm", inputs, transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3)]
    if trans_a:
        nodes = [
            op("Transpose", "x", "t"),
            op("Gemm", inputs.replace("x", "t"), "y", **_attributes(nodes[0])),
        ]
    result = proven(nodes, [1, 4], constants)
    assert kinds(result) == ["dense"]


def _attributes(node):
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


@pytest.mark.parametrize("shape", [["N", 4], ["N", 3, 4], ["N", 2, 3, 4]])
def test_matmul_takes_a_bias_and_a_clip(proven, shape) -> None:
    nodes = [op("MatMul", "x w", "p"), op("Add", "p b", "s"), op("Relu", "s")]
    result = proven(nodes, shape, {"w": weights(4, 5), "b": weights(5)})
    assert kinds(result) == ["dense"] and result.graph["fc1"].clip == (0.0, np.inf)


def test_weights_behind_identities_and_in_half_precision(proven) -> None:
    nodes = [op("Cast", "h", "f", to=1), op("Identity", "f", "w"), op("Conv", "x w")]
    result = proven(nodes, ["N", 2, 6, 6], {"h": weights(3, 2, 3, 3).astype(np.float16)})
    assert result.params["conv1"]["kernel"].dtype == np.float32


def test_what_conv_does_not_do_is_said(proven) -> None:
    with pytest.raises(UserError, match=r"Conv Conv_y: .*a map \[N, C, H, W\].*shape \[1, 2, 8, 8, 8\]"):
        proven(op("Conv", "x w"), ["N", 2, 8, 8, 8], {"w": weights(3, 2, 3, 3, 3)})
    with pytest.raises(UserError, match="Every input after the first is a constant"):
        proven(op("Conv", "x w"), {"x": ["N", 2, 8, 8], "w": [1, 2, 3, 3]})
    with pytest.raises(UserError, match="of one size.*; on the host: Both inputs have at least two axes"):
        proven(op("MatMul", "x w"), ["N", 2, 8], {"w": weights(8)})
