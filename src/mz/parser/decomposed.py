"""Activation functions that an exporter has written out: x * sigmoid(x), x * clip(x + 3, 0, 6) / 6, and so on.

A region of element-wise nodes over one tensor and constant numbers is a function of one number, in whatever order it is
written. It is evaluated over a grid and compared with the functions that a layer can be; no patterns are listed. Where
constants have a number for each channel of a map, it is evaluated for each, and may be a PReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.graph import functions
from mz.parser.edges import node_name, reads

if TYPE_CHECKING:
    import onnx

LARGEST_REGION = 10
TOLERANCE = 2e-6
"""Relative to 1 + |f|: passes constants rounded to float32, separates the two forms of GELU (3e-4 apart)."""

_GRID = np.concatenate([np.linspace(-12.0, 12.0, 481), [-60.0, -25.0, 25.0, 60.0]])

_KNOWN: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("hard_swish", ()),
    ("hard_sigmoid", (1 / 6, 0.5)),
    ("silu", ()),
    ("sigmoid", ()),
    ("mish", ()),
    ("gelu", ()),
    ("gelu_tanh", ()),
    ("softplus", ()),
    ("tanh", ()),
    ("abs", ()),
)

_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Min": np.minimum,
    "Max": np.maximum,
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Tanh": np.tanh,
    "Sigmoid": functions.sigmoid,
    "Softplus": functions.softplus,
    "Relu": lambda x: np.maximum(x, 0.0),
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Where": np.where,
    "Erf": lambda x: np.vectorize(math.erf)(x),
    "Identity": lambda x: x,
}


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes that together are one function of the tensor `source`: their names, and the function with its constants.

    slope: of a PReLU by channel, float32 [C]; its channels are the axis that comes so many before the end: `from_end`.
    """

    source: str
    function: str
    constants: tuple[float, ...]
    nodes: tuple[str, ...]
    interior: frozenset[str]
    slope: np.ndarray | None = None
    from_end: int = 0


def regions(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> dict[str, Region]:
    """Regions by the tensor that they end in; no two share a node.

    A node inside a region is read by that region alone, so leaving it out changes nothing else.
    """
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    readers: dict[str, set[int]] = {}
    for index, node in enumerate(nodes):
        for name in reads(node):
            readers.setdefault(name, set()).add(index)
    found: dict[str, Region] = {}
    taken: set[int] = set()
    for index in reversed(range(len(nodes))):
        if index in taken or not _evaluable(nodes[index], constants):
            continue
        region = _region_ending_in(index, nodes, constants, makers, readers, set(outputs))
        if region:
            members, found_region = region
            taken |= members
            found[nodes[index].output[0]] = found_region
    return found


def _region_ending_in(
    last: int,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    makers: Mapping[str, int],
    readers: Mapping[str, set[int]],
    outputs: set[str],
) -> tuple[set[int], Region] | None:
    """Grow a region backwards from node `last`, latest node first, until it is a known function of one tensor."""
    members = {last}
    for _ in range(LARGEST_REGION):
        frontier = {
            name for index in members for name in nodes[index].input if name and name not in constants
        } - {nodes[index].output[0] for index in members}
        inside = {nodes[index].output[0] for index in members if index != last}
        closed = not inside & outputs and all(readers[name] <= members for name in inside)
        if len(frontier) == 1 and len(members) > 1 and closed:
            (source,) = frontier
            match = _recognized(source, nodes[last].output[0], [nodes[i] for i in sorted(members)], constants)
            if match:
                names = tuple(node_name(nodes[index]) for index in sorted(members))
                function, parameters, slope, from_end = match
                region = Region(source, function, parameters, names, frozenset(inside), slope, from_end)
                return members, region
        candidates = [makers[name] for name in frontier if name in makers]
        if len(candidates) < len(frontier) or not candidates:
            inputs = frontier - set(makers)
            if len(inputs) > 1 or not candidates:
                return None
        latest = max(candidates)
        if not _evaluable(nodes[latest], constants):
            return None
        members.add(latest)
    return None


def _evaluable(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether the node maps numbers to numbers one by one; its constants are single numbers, or some along one axis."""
    known = node.op_type in _OPERATORS or node.op_type in ("Clip", "HardSigmoid")
    arrays = [constants[name] for name in node.input if name in constants]
    return known and all(array.size and sum(size > 1 for size in array.shape) <= 1 for array in arrays)


def _along(array: np.ndarray) -> tuple[int, int]:
    """How many axes from the end that one is along which there are numbers, and how many there are."""
    return next(((array.ndim - axis, size) for axis, size in enumerate(array.shape) if size > 1), (0, 1))


def _recognized(
    source: str, last: str, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, np.ndarray]
) -> tuple[str, tuple[float, ...], np.ndarray | None, int] | None:
    """The function that the nodes compute, as the last four of `Region` have it, if a layer can be it."""
    axes = {_along(constants[name]) for node in nodes for name in node.input if name in constants} - {(0, 1)}
    if len(axes) > 1:
        return None
    known: dict[str, Any] = {source: _GRID}
    with np.errstate(all="ignore"):
        for node in nodes:
            inputs = [known[name] if name in known else _number(constants, name) for name in node.input]
            known[node.output[0]] = _apply(node, inputs)
        result = np.asarray(known[last])
        if axes:
            slopes = result[:, :1] / _GRID[0]
            alike = _alike(result, functions.prelu(_GRID, slopes))
            ((from_end, _),) = axes
            return ("prelu", (), slopes[:, 0].astype(np.float32), from_end) if alike else None
        match = _of_one_number(result)
    return (*match, None, 0) if match else None


def _of_one_number(result: np.ndarray) -> tuple[str, tuple[float, ...]] | None:
    """The function that gives `result` over the grid."""
    for function, parameters in _KNOWN:
        if _alike(result, functions.apply(function, _GRID, parameters)):
            return function, parameters
    low, high = float(result.min()), float(result.max())
    bounds = (low if low > _GRID.min() else -math.inf, high if high < _GRID.max() else math.inf)
    if low < high and bounds != (-math.inf, math.inf) and _alike(result, np.clip(_GRID, *bounds)):
        return "clip", bounds
    slope = float(result[0] / _GRID[0])
    if slope != 1 and _alike(result, functions.leaky_relu(_GRID, slope)):
        return "leaky_relu", (slope,)
    return None


def _alike(result: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.all(np.abs(result - expected) <= TOLERANCE * (1 + np.abs(expected))))


def _number(constants: Mapping[str, np.ndarray], name: str) -> float | np.ndarray | None:
    """None for what is left out; [C, 1] by channel."""
    if not name:
        return None
    return float(constants[name].reshape(())) if constants[name].size == 1 else constants[name].reshape(-1, 1)


def _apply(node: onnx.NodeProto, inputs: Sequence[Any]) -> Any:
    from onnx import helper

    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "HardSigmoid":
        return functions.hard_sigmoid(inputs[0], attributes.get("alpha", 0.2), attributes.get("beta", 0.5))
    if node.op_type == "Clip":
        low, high = (*inputs[1:], None, None)[:2]
        low = attributes.get("min", -math.inf) if low is None else low
        high = attributes.get("max", math.inf) if high is None else high
        return np.clip(inputs[0], low, high)
    return _OPERATORS[node.op_type](*inputs)
