"""Resize and Upsample: a layer of its own where it is nearest or bilinear, else products with constant matrices."""

from __future__ import annotations

import math

import numpy as np

from mz.graph import Resize
from mz.parser.constants import evaluate
from mz.parser.draft import Draft
from mz.parser.matrices import RULES as MATRICES
from mz.parser.node import ON_MAP, Node, Rule, Value, constant_settings

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")


def resize_rows_and_columns(node: Node) -> str | None:
    """Only height and width are resized."""
    _, shape = _resized(node)
    return (
        None if shape[:2] == node.x.shape[:2] and min(shape) > 0 else f"{list(node.x.shape)} to {list(shape)}"
    )


def resize_mode(node: Node) -> str | None:
    """The mode is nearest, linear or cubic, without an aspect-ratio policy."""
    mode, policy = _mode(node), node.attribute("keep_aspect_ratio_policy", "stretch")
    return None if mode in MODES and policy == "stretch" else f"mode {mode}, policy {policy}"


def resize_coordinates(node: Node) -> str | None:
    """Coordinates are half_pixel, pytorch_half_pixel, asymmetric or align_corners; half_pixel_symmetric too, but for
    nearest.
    """
    found = _coordinates(node)
    taken = COORDINATES if _mode(node) == "nearest" else (*COORDINATES, "half_pixel_symmetric")
    return None if found in taken else found


def one_direction(node: Node) -> str | None:
    """A nearest resize before opset 11 does not enlarge one axis and shrink the other."""
    rows, columns = _resized(node)[0]
    mixed = node.opset < 11 and _mode(node) == "nearest" and (rows < 1) != (columns < 1)
    return f"scales {rows}, {columns}" if mixed and 1 not in (rows, columns) else None


def resize(node: Node, draft: Draft) -> Value:
    """Height and width resampled, nearest or bilinear. Cubic, with antialiasing, without what lies outside or with
    coordinates half_pixel_symmetric, as constant matrices times rows and columns.
    """
    scales, shape = _resized(node)
    mode = _mode(node)
    weighted = mode == "cubic" or any(node.attribute(name, 0) for name in ("antialias", "exclude_outside"))
    if mode != "nearest" and (weighted or _coordinates(node) not in COORDINATES):
        return _by_matrices(node, draft, scales, shape)
    # Before opset 11 nearest means downwards when enlarging and upwards when shrinking.
    older = "ceil" if min(scales) < 1 else "floor"
    nearest = node.attribute("nearest_mode", "round_prefer_floor") if node.opset >= 11 else older
    layer = draft.emit(
        Resize,
        [draft.view(node.x, 0, node.name)],
        shape[1:],
        [node.name],
        mode="nearest" if mode == "nearest" else "bilinear",
        scales=scales,
        coordinates=_coordinates(node),
        nearest_mode=nearest if mode == "nearest" else "round_prefer_floor",
    )
    return Value(layer, shape)


def _by_matrices(node: Node, draft: Draft, scales: tuple[float, float], shape: tuple[int, ...]) -> Value:
    """One axis after the other, the one first that becomes smaller."""
    x = node.x
    for axis in sorted((2, 3), key=lambda axis: scales[axis - 2]):
        matrix = _matrix(node, x.shape[axis], scales[axis - 2], shape[axis])
        product = node.part("MatMul", x, matrix) if axis == 3 else node.part("MatMul", matrix.T, x)
        x = MATRICES["MatMul"].apply(product, draft)
    return x


def _matrix(node: Node, size: int, scale: float, target: int) -> np.ndarray:
    """[size, target]: the share of each number in those that come out, by ONNX's reference implementation."""
    from onnx import helper

    attributes = {name: value for name, value in node.attributes.items() if name != "axes"}
    operands: list[np.ndarray | None] = [np.eye(size, dtype=np.float32), None]
    if node.setting("sizes", 3) is None and _coordinates(node) != "align_corners":
        operands += [np.asarray([1.0, scale], np.float32)]
    else:
        operands += [None, np.asarray([size, target])]
    names = ["" if operand is None else f"x{place}" for place, operand in enumerate(operands)]
    return evaluate(helper.make_node("Resize", names, ["y"], **attributes), operands, node.opset)[0]


def _mode(node: Node) -> str:
    return str(node.attribute("mode", "nearest"))


def _coordinates(node: Node) -> str:
    default = "half_pixel" if node.opset >= 11 else "asymmetric"
    return str(node.attribute("coordinate_transformation_mode", default))


def _resized(node: Node) -> tuple[tuple[float, float], tuple[int, ...]]:
    """Scales of rows and columns, and the ONNX shape of the result."""
    shape = node.x.shape
    axes = [node.axis(axis) for axis in node.attribute("axes", range(4))]
    modern = node.op_type == "Resize" and node.opset >= 11
    given = node.setting("scales", 2 if modern else 1)
    sizes = node.setting("sizes", 3) if modern else None
    target, scales = list(shape), [1.0] * 4
    for i, axis in enumerate(axes):
        if sizes:
            target[axis] = int(sizes[i])
            scales[axis] = target[axis] / shape[axis]
        else:
            scales[axis] = float(given[i])
            target[axis] = math.floor(float(np.float32(shape[axis]) * np.float32(given[i])))
    return (scales[2], scales[3]), tuple(target)


_RESIZE = Rule(
    resize,
    (*ON_MAP, constant_settings, resize_mode, resize_coordinates, resize_rows_and_columns, one_direction),
)

RULES = {"Resize": _RESIZE, "Upsample": _RESIZE}
