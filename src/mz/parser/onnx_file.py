"""The ONNX file: reading it, cutting it at named nodes, and the shapes of its inputs for one image.

Imports onnx inside the functions that need it. `cut_model` serves the parser and the baseline alike, so that both see
the same network.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import CycleError
from pathlib import Path
from typing import TYPE_CHECKING

from mz.errors import UserError
from mz.parser.edges import node_name, reads, sort_nodes
from mz.parser.integer_inputs import take_floats
from mz.parser.single_precision import in_single_precision

if TYPE_CHECKING:
    import onnx

OPSETS = range(7, 24)


def load_model(path: Path) -> onnx.ModelProto:
    """The model of an ONNX file: nodes behind those that they read, and float32 in the place of half precision and of
    integers that are only cast to floats.

    Raises UserError for a file that is missing, damaged, or something else.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        model = onnx.load(path)
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise UserError(
            f"{path}: not a readable ONNX file ({_first_line(error)}); export or copy it again"
        ) from error
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not model.graph.node or not versions:
        raise UserError(
            f"{path}: not an ONNX network: it holds no nodes or names no opset; export or copy it again"
        )
    if versions[0] not in OPSETS:
        supported = f"{OPSETS[0]} to {OPSETS[-1]}"
        raise UserError(f"{path}: opset {versions[0]} is outside {supported}; export it with one of these")
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    with reading_arrays(str(path)):
        in_single_precision(model.graph)
    take_floats(model.graph)
    try:
        sort_nodes(model.graph)
    except CycleError as error:
        first = node_name(model.graph.node[error.args[1][0]])
        raise UserError(
            f"{path}: node {first} reads what is made of its own output; export it again"
        ) from error
    return model


@contextmanager
def reading_arrays(source: str) -> Iterator[None]:
    """Raises UserError, naming the source, for a stored array whose data do not fit its shape."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{source}: a stored array does not fit its shape ({_first_line(error)}); export the network again"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: those most like it."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""


def cut_model(path: Path, start_nodes: Sequence[str] = (), end_nodes: Sequence[str] = ()) -> onnx.ModelProto:
    """The network of `path` from `start_nodes` (included; none: its inputs) to `end_nodes` (none: its outputs).

    The tensors that start nodes read become inputs, the outputs of end nodes become outputs in the order given; what
    does not lead to them is dropped. A node is named by its name or by one of its outputs.
    Raises UserError for a file that cannot be read and for unknown names.
    """
    from onnx import TensorProto, helper, shape_inference

    model = load_model(path)
    if not start_nodes and not end_nodes:
        return _pruned(model, list(model.graph.input), list(model.graph.output))
    nodes: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        for name in (*node.output, node.name):
            if name:
                nodes[name] = node
    for option, names in (("start", start_nodes), ("end", end_nodes)):
        if unknown := [name for name in names if name not in nodes]:
            raise UserError(
                f"{path}: no node is named {unknown[0]!r} ({option} node){nearest(unknown[0], nodes)}"
            )

    inferred = shape_inference.infer_shapes(model).graph
    infos = {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}
    constants = _constant_tensors(model.graph)
    read = {name for node in model.graph.node for name in reads(node)} | {
        info.name for info in model.graph.output
    }

    def info(tensor: str) -> onnx.ValueInfoProto:
        return infos.get(tensor) or helper.make_tensor_value_info(tensor, 1, None)

    inputs = list(model.graph.input)
    for name in start_nodes:
        boundary = [
            t
            for t in reads(nodes[name])
            if t not in constants and info(t).type.tensor_type.elem_type != TensorProto.INT64
        ]
        inputs += [info(tensor) for tensor in boundary if tensor not in {entry.name for entry in inputs}]
    outputs = [
        info(tensor)
        for name in end_nodes
        for i, tensor in enumerate(nodes[name].output)
        if tensor and (i == 0 or (nodes[name].op_type == "Split" and tensor in read))
    ]
    cut = _pruned(model, inputs, outputs or list(model.graph.output))
    reached = {node_name(node) for node in cut.graph.node}
    if useless := [name for name in start_nodes if node_name(nodes[name]) not in reached]:
        raise UserError(f"{path}: nothing leads from the start node {useless[0]!r} to the end of the network")
    return cut


def with_input_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Gives the model's inputs these shapes, in place, and forgets those stated for other tensors.

    An exporter's own are an example; the batch of ten at 32x32 that one file states says nothing about what it can do.
    """
    for info in model.graph.input:
        if info.name in shapes:
            _set_shape(info, shapes[info.name])
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _set_shape(info: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    tensor = info.type.tensor_type
    tensor.ClearField("shape")
    for size in shape:
        tensor.shape.dim.add().dim_value = size


def input_names(path: Path, start_nodes: Sequence[str] = ()) -> list[str]:
    """The network's inputs, or those that it has when it begins at `start_nodes`. Raises UserError as `cut_model`."""
    return [info.name for info in cut_model(path, start_nodes).graph.input]


def input_shapes_for_one_image(
    model: onnx.ModelProto, path: Path, given: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[int, ...]]:
    """The ONNX shape of each input with the batch axis (the first) at 1, by name.

    given: shapes for inputs whose own are open, with or without the batch axis.
    Raises UserError where a size stays open, a batch is fixed to another size, or an input does not hold floats.
    """
    from onnx import TensorProto

    given = dict(given or {})
    names = [info.name for info in model.graph.input]
    if unknown := [name for name in given if name not in names]:
        raise UserError(f"{path}: a shape is given for {unknown[0]!r}, but the inputs are {', '.join(names)}")
    shapes = {}
    for info in model.graph.input:
        tensor = info.type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise UserError(
                f"{path}: input {info.name!r} holds {kind}; export the network with float32 inputs, or begin it"
                " behind the cast to them: --start-node-names"
            )
        dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
        if info.name in given:
            shape = [int(size) for size in given[info.name]]
            shape = [1, *shape] if len(shape) == len(dims) - 1 else shape
            if len(shape) != len(dims) and dims:
                raise UserError(
                    f"{path}: input {info.name!r} has {len(dims)} axes, the shape given {len(shape)}"
                )
            dims = shape
        elif dims and dims[0] < 1:
            dims[0] = 1
        if not dims or min(dims) < 1:
            found = [dim.dim_param or dim.dim_value or "?" for dim in tensor.shape.dim]
            raise UserError(
                f"{path}: input {info.name!r} has the open shape {found}; give --input-shape, or set input_shapes "
                "under parser: in the YAML"
            )
        if dims[0] != 1:
            raise UserError(
                f"{path}: input {info.name!r} is fixed to batches of {dims[0]}; give --input-shape for one image,"
                " or export it with batch 1 or open"
            )
        shapes[info.name] = tuple(dims)
    return shapes


def _constant_tensors(graph: onnx.GraphProto) -> set[str]:
    """Tensors that do not depend on any input."""
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in constants for name in reads(node)):
            constants.update(node.output)
    return constants


def _pruned(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The same model with only what lies between these inputs and outputs; inputs that nothing reads are dropped."""
    from onnx import helper

    initializers = {tensor.name for tensor in model.graph.initializer}
    given = {info.name for info in inputs} - initializers
    needed = {info.name for info in outputs}
    nodes = []
    for node in reversed(model.graph.node):
        if any(name in needed and name not in given for name in node.output):
            nodes.append(node)
            needed.update(reads(node))
    graph = helper.make_graph(
        nodes[::-1],
        model.graph.name or "network",
        [info for info in inputs if info.name in needed and info.name in given],
        list(outputs),
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
