"""The members of an archive as bytes, and back: JSON, YAML, npz. No file is touched here.

Every byte is a function of the archive's content: fixed order of keys, layers in the graph's order, no time. JSON is
Python's, which writes infinities as `Infinity`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import yaml

import mz
from mz.archive import npz
from mz.archive.model import NAME_PATTERN, Archive, params_fault, quantization_fault, state_fault
from mz.errors import UserError
from mz.graph import Graph, Params, Quantization, TensorQuant, WeightQuant

FORMAT_VERSION = 1
METADATA = ".metadata.json"
ARTEFACTS = "artefacts/"
_PATH_PATTERN = re.compile(r"(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_TENSOR_FIELDS = {
    "layer": np.dtype(np.str_),
    "scale": np.dtype("f4"),
    "zero_point": np.dtype("i4"),
    "bits": np.dtype("u1"),
}

T = TypeVar("T")


def members(archive: Archive) -> dict[str, bytes]:
    """Every member by name, in the file's order, the metadata first.

    Raises UserError for a name that cannot name files, ValueError for arrays that do not fit their graph (a defect of
    the stage that made them: an archive that could not be read back is never written).
    """
    if not NAME_PATTERN.fullmatch(archive.name):
        raise UserError(
            f"network name {archive.name!r}: only letters, digits, '_', '.' and '-' can name an archive's members"
        )
    if fault := _fault(archive):
        raise ValueError(f"archive {archive.name}: {fault}")
    body: dict[str, bytes] = {
        ".network.yaml": yaml.safe_dump(archive.config, sort_keys=False, allow_unicode=True).encode(),
        ".hn": _json(
            {
                "native": archive.graph.to_dict(),
                "fpo": archive.fpo_graph and archive.fpo_graph.to_dict(),
                "input_form": archive.input_form,
            }
        ),
        ".npz": npz.dumps(_flat(archive.graph, archive.params)),
    }
    if archive.fpo_graph is not None and archive.fpo_params is not None:
        body[".fpo.npz"] = npz.dumps(_flat(archive.fpo_graph, archive.fpo_params))
    if archive.quantization is not None:
        body[".q.npz"] = npz.dumps(_quantization_arrays(archive.working_graph, archive.quantization))
    body[".alls"] = archive.script.encode()
    body[".report.json"] = _json(archive.report)
    named = {archive.name + suffix: data for suffix, data in body.items()}
    for path, data in sorted(archive.artefacts.items()):
        if not is_safe_path(path):
            raise ValueError(f"archive {archive.name}: artefact {path!r} is not a plain relative path")
        named[ARTEFACTS + path] = data
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": archive.name,
        "state": archive.state,
        "hw_arch": archive.hw_arch,
        "tool_version": mz.__version__,
        "history": archive.history,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in named.items()},
    }
    return {archive.name + METADATA: _json(metadata | {"checksum": _checksum(metadata)})} | named


def metadata_of(data: bytes) -> dict[str, Any]:
    """The metadata member, checked: version first, then its own checksum. Raises ValueError."""
    metadata = json.loads(data)
    if not isinstance(metadata, dict):
        raise ValueError("no JSON object")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version!r}, and this mz {mz.__version__} reads {FORMAT_VERSION}")
    if metadata.pop("checksum", None) != _checksum(metadata):
        raise ValueError("checksum mismatch: the file is damaged or was edited")
    return metadata


def archive_of(named: Mapping[str, bytes]) -> Archive:
    """The inverse of `members`, for members whose checksums were found right. Raises UserError naming the member."""
    (metadata_name,) = (name for name in named if name.endswith(METADATA))
    prefix = metadata_name.removesuffix(METADATA)

    def part(suffix: str, decode: Callable[[bytes], T]) -> T:
        name = prefix + suffix
        if name not in named:
            raise UserError(f"member {name} is missing")
        try:
            return decode(named[name])
        except (
            UserError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            yaml.YAMLError,
        ) as error:
            raise UserError(f"member {name}: {' '.join(str(error).split())}") from error

    metadata = part(METADATA, metadata_of)
    graph, fpo_graph, input_form = part(".hn", _graphs)
    working = graph if fpo_graph is None else fpo_graph
    quantization = (
        part(".q.npz", lambda data: _quantization(working, data)) if prefix + ".q.npz" in named else None
    )
    archive = Archive(
        name=prefix,
        state=metadata["state"],
        hw_arch=metadata["hw_arch"],
        config=part(".network.yaml", _mapping(yaml.safe_load)),
        graph=graph,
        params=part(".npz", lambda data: _params(graph, data)),
        fpo_graph=fpo_graph,
        fpo_params=None if fpo_graph is None else part(".fpo.npz", lambda data: _params(working, data)),
        input_form=input_form,
        quantization=quantization,
        script=part(".alls", lambda data: data.decode()),
        report=part(".report.json", _mapping(json.loads)),
        history=metadata["history"],
        artefacts={
            name.removeprefix(ARTEFACTS): data for name, data in named.items() if name.startswith(ARTEFACTS)
        },
    )
    if fault := state_fault(archive):
        raise UserError(f"member {metadata_name}: {fault}")
    return archive


def is_safe_path(path: str) -> bool:
    """Whether `path` stays inside the folder it is joined to, on every system."""
    return _PATH_PATTERN.fullmatch(path) is not None


def _fault(archive: Archive) -> str | None:
    fault = state_fault(archive) or params_fault(archive.graph, archive.params)
    if not fault and archive.fpo_graph is not None and archive.fpo_params is not None:
        fault = params_fault(archive.fpo_graph, archive.fpo_params)
    if not fault and archive.quantization is not None:
        fault = quantization_fault(archive.working_graph, archive.quantization)
    return fault


def _json(data: Any) -> bytes:
    return json.dumps(data, indent=1, ensure_ascii=False, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is not plain data")


def _checksum(metadata: Mapping[str, Any]) -> str:
    """Of the metadata's values, whatever the white space and the order they are written in."""
    canonical = json.dumps(metadata, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _mapping(load: Callable[[bytes], Any]) -> Callable[[bytes], dict[str, Any]]:
    def decode(data: bytes) -> dict[str, Any]:
        value = load(data)
        if not isinstance(value, dict):
            raise ValueError(f"holds a {type(value).__name__} and must hold a mapping")
        return value

    return decode


def _graphs(data: bytes) -> tuple[Graph, Graph | None, list[dict[str, Any]]]:
    graphs = json.loads(data)
    fpo = graphs["fpo"] and Graph.from_dict(graphs["fpo"])
    return Graph.from_dict(graphs["native"]), fpo, graphs["input_form"]


def _flat(graph: Graph, params: Params) -> dict[str, np.ndarray]:
    """`layer/parameter` -> array, in the order of the graph, then of the alphabet."""
    arrays = {}
    for layer in graph.layers:
        for key, array in sorted(params.get(layer.name, {}).items()):
            arrays[f"{layer.name}/{key}"] = array
    return arrays


def _nested(arrays: Mapping[str, np.ndarray]) -> Params:
    params: Params = {}
    for name, array in arrays.items():
        layer, slash, key = name.rpartition("/")
        if not slash:
            raise ValueError(f"array {name} is not named layer/parameter")
        params.setdefault(layer, {})[key] = array
    return params


def _params(graph: Graph, data: bytes) -> Params:
    params = _nested(npz.loads(data))
    if fault := params_fault(graph, params):
        raise ValueError(fault)
    return params


def _quantization_arrays(graph: Graph, quantization: Quantization) -> dict[str, np.ndarray]:
    """The tensors as one table, a column an array (`tensors.scale`, ...), then `layer/kernel` and so on by layer."""
    names = [layer.name for layer in graph.layers if layer.name in quantization.tensors]
    rows = [quantization.tensors[name] for name in names]
    arrays: dict[str, np.ndarray] = {
        "tensors.layer": np.array(names, np.str_),
        "tensors.scale": np.array([row.scale for row in rows], np.float32),
        "tensors.zero_point": np.array([row.zero_point for row in rows], np.int32),
        "tensors.bits": np.array([row.bits for row in rows], np.uint8),
    }
    for layer in graph.layers:
        if weight := quantization.weights.get(layer.name):
            arrays[f"{layer.name}/kernel"] = weight.kernel
            arrays[f"{layer.name}/scale"] = weight.scale
            arrays[f"{layer.name}/bias"] = weight.bias
            arrays[f"{layer.name}/bits"] = np.array(weight.bits, np.uint8)
    return arrays


def _quantization(graph: Graph, data: bytes) -> Quantization:
    arrays = npz.loads(data)
    columns: list[np.ndarray] = []
    for key, dtype in _TENSOR_FIELDS.items():
        column = arrays.pop(f"tensors.{key}", np.empty(0))
        if (
            column.ndim != 1
            or column.dtype.kind != dtype.kind
            or (columns and len(column) != len(columns[0]))
        ):
            raise ValueError(f"tensors.{key} is missing or not a column of the table of tensors")
        columns.append(column)
    quantization = Quantization()
    for name, scale, zero_point, bits in zip(*columns, strict=True):
        quantization.tensors[str(name)] = TensorQuant(np.float32(scale), int(zero_point), int(bits))
    for name, parts in _nested(arrays).items():
        if set(parts) != {"kernel", "scale", "bias", "bits"} or parts["bits"].shape:
            raise ValueError(f"layer {name} holds {sorted(parts)} and must hold kernel, scale, bias and bits")
        quantization.weights[name] = WeightQuant(
            parts["kernel"], parts["scale"], parts["bias"], int(parts["bits"])
        )
    if fault := quantization_fault(graph, quantization):
        raise ValueError(fault)
    return quantization
