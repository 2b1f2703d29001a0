"""From ONNX nodes to a draft: one pass forward, in which constants and shapes become known as they are met.

What no rule supports is collected, not raised at once, and its outputs go on with the shapes that onnx infers, so
that a user sees everything that stands in the way in one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mz.errors import UserError
from mz.graph import Activation, Input, Reshape
from mz.parser import one_dimension, windows
from mz.parser.constants import evaluate, initializers, shape_of
from mz.parser.decomposed import Region, regions
from mz.parser.draft import Draft
from mz.parser.edges import node_name, reads
from mz.parser.node import Node, Operand, Value
from mz.parser.onnx_file import reading_arrays
from mz.parser.rules import HOST_RULES, RULES
from mz.parser.signs import never_negative
from mz.parser.softmax import factors, scores

if TYPE_CHECKING:
    import onnx

BROADCASTING = frozenset(("Add", "Sub", "Mul", "Div"))
_QUANTIZED = frozenset(
    (
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
    )
)
_NAMED = 8
"""Nodes of one kind that a message names."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Conversion:
    """Where a conversion stands: what is known of each ONNX tensor so far.

    tainted: tensors that depend on an unsupported node. problems: (operator, node, reason) of each such node.
    signs: by layer, whether it is known to be never negative. factors: outputs of softmaxes that weigh another tensor.
    scores: tensors that only softmaxes read.
    """

    graph: onnx.GraphProto
    opset: int
    draft: Draft
    constants: dict[str, np.ndarray]
    values: dict[str, Value] = field(default_factory=dict)
    tainted: set[str] = field(default_factory=set)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    signs: dict[str, bool] = field(default_factory=dict)
    factors: set[str] = field(default_factory=set)
    scores: set[str] = field(default_factory=set)


def convert(model: onnx.ModelProto, input_shapes: Shapes, source: str) -> Draft:
    """The draft of a model, before any pass. `source` is what messages call the model.

    Raises UserError that lists every unsupported node.
    """
    with reading_arrays(source):
        constants = initializers(model.graph)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    state = Conversion(model.graph, opset, Draft(), constants)
    for info in model.graph.input:
        shape = input_shapes[info.name]
        state.values[info.name] = Value(state.draft.emit(Input, [], shape[1:]), shape)
    for node in model.graph.node:
        _work_out(state, node)
    state.factors = factors(model.graph.node, state.constants)
    outputs = [info.name for info in model.graph.output]
    state.scores = scores(model.graph.node) - set(outputs)
    found = regions(model.graph.node, state.constants, outputs)
    within = {name: end for end, region in found.items() for name in (end, *region.interior)}
    wanted = {name for node in model.graph.node for name in reads(node)} | set(outputs)
    shapes = _Inferred(model)
    for node in model.graph.node:
        if _work_out(state, node) or _broadcast_anyway(state, node, outputs):
            continue
        end = within.get(node.output[0])
        if end is None or not _fits(state, found[end]):
            _convert_node(state, node, wanted, shapes, source)
        elif end == node.output[0]:
            _convert_region(state, end, found[end])
    if state.problems:
        raise UserError(_unsupported(state, source))
    _set_outputs(state, outputs, source)
    return state.draft


def _work_out(state: Conversion, node: onnx.NodeProto) -> bool:
    """Compute a node whose inputs are all known, or the shape of a known tensor. False where it is no constant."""
    if all(name in state.constants or name in state.tainted for name in node.output if name):
        return True
    if node.op_type == "Shape" and node.input[0] in state.values and node.input[0] not in state.tainted:
        attributes = {entry.name: entry.i for entry in node.attribute}
        state.constants[node.output[0]] = shape_of(state.values[node.input[0]].shape, attributes)
        return True
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith("Random"):
        return False
    if not all(name in state.constants for name in reads(node)):
        return False
    try:
        arrays = evaluate(node, [state.constants.get(name) for name in node.input], state.opset)
    except Exception as error:  # the reference implementation raises anything
        reason = f"its inputs are constants, but it cannot be computed ({type(error).__name__})"
        state.problems.append((node.op_type, node_name(node), reason))
        state.tainted.update(node.output)
        return True
    state.constants.update(zip((name for name in node.output if name), arrays, strict=False))
    return True


def _broadcast_anyway(state: Conversion, node: onnx.NodeProto, outputs: Sequence[str]) -> bool:
    """Leave out an Expand, where each of its readers combines it with a tensor that has the shape already."""
    if node.op_type != "Expand" or node.output[0] in outputs or node.input[0] in state.tainted:
        return False
    value, target = state.values.get(node.input[0]), state.constants.get(node.input[1])
    if value is None or target is None:
        return False
    try:
        shape = np.broadcast_shapes(value.shape, tuple(target.reshape(-1).tolist()))
    except (ValueError, TypeError):  # the host's rule says what does not fit
        return False
    for reader in state.graph.node:
        if node.output[0] in reads(reader):
            others = [state.values[name] for name in reader.input if name in state.values]
            if reader.op_type not in BROADCASTING or all(other.shape != shape for other in others):
                return False
    state.values[node.output[0]] = value
    return True


def _fits(state: Conversion, region: Region) -> bool:
    """Whether the tensor has the channels that the region's function has, behind the batch."""
    x = state.values.get(region.source)
    if region.slope is None or x is None:
        return True
    return x.batch_axis == 0 and len(x.shape) == 1 + region.from_end and x.shape[1] == len(region.slope)


def _convert_region(state: Conversion, output: str, region: Region) -> None:
    """One activation for a region that writes a function out."""
    x = state.values.get(region.source)
    if x is None:
        state.tainted.add(output)
        return
    layer = state.draft.emit(
        Activation,
        [x.layer],
        x.layer_shape,
        region.nodes,
        None if region.slope is None else {"slope": region.slope},
        function=region.function,
        constants=region.constants,
    )
    state.draft.note(layer, f"{', '.join(region.nodes)} together are {region.function}")
    state.values[output] = Value(layer, x.shape, x.batch_axis)
    if region.source in state.tainted:
        state.tainted.add(output)


def _convert_node(
    state: Conversion, proto: onnx.NodeProto, wanted: set[str], shapes: _Inferred, source: str
) -> None:
    """Apply the node's rule; where there is none, or a constraint is broken, note the problem and go on."""
    known = [name for name in reads(proto) if name in state.values or name in state.constants]
    missing = [name for name in reads(proto) if name not in known and name not in state.tainted]
    if missing:
        raise UserError(
            f"{source}: node {node_name(proto)} reads {missing[0]!r}, which nothing before it makes"
        )
    op_type = f"{proto.domain}.{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type
    rule = RULES.get(op_type)
    reason = None if rule else "no layer does this"
    if len(known) == len(reads(proto)):
        made, reason = _apply_rules(_node(state, proto, wanted), state.draft, op_type)
        if reason is None:
            state.values.update(zip(proto.output, made, strict=False))
            if any(name in state.tainted for name in reads(proto)):
                state.tainted.update(proto.output)
            return
    # What an unsupported node would have told, a shape or a setting, is not known to be amiss.
    follows = op_type == "Shape" or (rule and any(name in state.tainted for name in reads(proto)[1:]))
    if reason is not None and not follows:
        state.problems.append((op_type, node_name(proto), reason))
    state.tainted.update(proto.output)
    for name in proto.output:
        shape = shapes.of(name)
        if shape is not None:
            stand_in = Value("", shape, 0 if shape[:1] == (1,) else None)
            layer = state.draft.emit(Input, [], stand_in.layer_shape)
            state.values[name] = Value(layer, shape, stand_in.batch_axis)


def _apply_rules(node: Node, draft: Draft, op_type: str) -> tuple[list[Value], str | None]:
    """The values of the node's outputs by its own rule, else by the host's; or the reason why neither takes it."""
    first, reason = len(draft.layers), ""
    own, on_host = RULES.get(op_type), HOST_RULES.get(op_type)
    if own and own.written_out(node) and on_host and _reads_host(node, draft):
        own = None
    for rule, place, absent in (
        (own, "", "no layer does this"),
        (on_host, "on the host: ", "no host layer either"),
    ):
        if rule is None:
            reason = reason or absent
            continue
        try:
            lifted, lowered = one_dimension.lift(node, draft) or windows.lift(node, draft) or (node, None)
            found = rule.violation(lifted)
            if found is None:
                made = rule.convert(lifted, draft)
                values = [made] if isinstance(made, Value) else list(made)
                if lowered is not None:
                    values = [lowered(value) for value in values]
                _explain_host(draft, first, node, reason or f"{node.op_type} runs in float")
                return values, None
        except (ValueError, IndexError, TypeError, KeyError) as error:
            found = f"its inputs and attributes do not fit together ({error})"
        reason = f"{reason}; {place}{found}" if reason else found
    return [], reason


def _reads_host(node: Node, draft: Draft) -> bool:
    return any(draft.layers[x.layer].host for x in node.inputs if isinstance(x, Value))


def _explain_host(draft: Draft, first: int, node: Node, reason: str) -> None:
    """Give the reason to those of the layers from number `first` on with which the host's part begins."""
    for name in list(draft.layers)[first:]:
        layer = draft.layers[name]
        if layer.host and not any(draft.layers[source].host for source in layer.inputs):
            draft.host_reasons[name] = f"{node.op_type} {node.name}: {reason}"


def _node(state: Conversion, proto: onnx.NodeProto, wanted: set[str]) -> Node:
    from onnx import helper

    def operand(name: str) -> Operand:
        if not name:
            return None
        return state.values[name] if name in state.values else state.constants[name]

    attributes = {}
    for entry in proto.attribute:
        value = helper.get_attribute_value(entry)
        attributes[entry.name] = value.decode() if isinstance(value, bytes) else value
    return Node(
        op_type=proto.op_type,
        name=node_name(proto),
        opset=state.opset,
        attributes=attributes,
        inputs=tuple(operand(name) for name in proto.input),
        outputs=tuple(name if name in wanted else "" for name in proto.output),
        never_negative=frozenset(
            place
            for place, name in enumerate(proto.input)
            if name in state.values and never_negative(state.draft, state.values[name].layer, state.signs)
        ),
        weighs=proto.output[0] in state.factors,
        before_softmax=proto.output[0] in state.scores,
    )


class _Inferred:
    """Shapes that onnx infers, worked out once and only if asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def of(self, tensor: str) -> tuple[int, ...] | None:
        """The tensor's ONNX shape, None where it cannot be told."""
        if self._shapes is None:
            self._shapes = self._infer()
        return self._shapes.get(tensor)

    def _infer(self) -> dict[str, tuple[int, ...]]:
        from onnx import shape_inference

        inferred = shape_inference.infer_shapes(self._model, data_prop=True).graph
        shapes = {}
        for info in (*inferred.value_info, *inferred.output):
            dims = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
            if info.type.tensor_type.HasField("shape") and all(size > 0 for size in dims):
                shapes[info.name] = dims
        return shapes


def _set_outputs(state: Conversion, outputs: Sequence[str], source: str) -> None:
    """Name the draft's outputs; one that is an input, or doubles another, gets a layer of its own."""
    draft = state.draft
    for name in outputs:
        if name not in state.values:
            raise UserError(
                f"{source}: output {name!r} is a constant; choose other outputs with --end-node-names"
            )
        value = state.values[name]
        layer = value.layer
        if layer in draft.outputs or isinstance(draft.layers[layer], Input):
            layer = draft.emit(Reshape, [layer], value.layer_shape, [name])
        draft.outputs.append(layer)


def _unsupported(state: Conversion, source: str) -> str:
    """The message that lists all problems, and the nodes to end the network at instead."""
    groups: dict[tuple[str, str], list[str]] = {}
    for op_type, name, reason in state.problems:
        groups.setdefault((op_type, reason), []).append(name)
    listed = "; ".join(f"{op} {_first_of(names)}: {reason}" for (op, reason), names in groups.items())
    outputs = {info.name for info in state.graph.output}
    edge = {
        name for node in state.graph.node if state.tainted & set(node.output) for name in reads(node)
    } | outputs
    ends = [
        node_name(node)
        for node in state.graph.node
        if any(name in edge and name in state.values and name not in state.tainted for name in node.output)
    ]
    if any(op_type in _QUANTIZED for op_type, _, _ in state.problems):
        way_out = "give the float network that this one was quantized from"
    elif ends:
        way_out = f"end the network before them: --end-node-names {','.join(ends)}"
    else:
        way_out = "export it without them, for nothing precedes them"
    count = len(state.problems)
    return f"{source}: {count} unsupported operator{'s' if count > 1 else ''}: {listed}. Way out: {way_out}"


def _first_of(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
