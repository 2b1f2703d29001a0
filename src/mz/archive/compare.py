"""The differences between two archives, part by part and layer by layer: for `mz har diff`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.archive.model import Archive
from mz.graph import Graph, Params, Quantization


@dataclass(frozen=True, slots=True)
class Difference:
    """part: of the archive ('graph', 'params', ...); where: the layer, array or key in it; text: what differs."""

    part: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.part}: {self.where}: {self.text}"


def diff(first: Archive, second: Archive) -> list[Difference]:
    """All differences in the order of the stages; empty when the two hold the same."""
    return [
        *_fields("metadata", first, second, ("name", "state", "hw_arch")),
        *_plain("history", first.history, second.history),
        *_plain("config", first.config, second.config),
        *_graph("graph", first.graph, second.graph),
        *_params("params", first.params, second.params),
        *_graph("optimized graph", first.fpo_graph, second.fpo_graph),
        *_params("optimized params", first.fpo_params, second.fpo_params),
        *_quantization(first.quantization, second.quantization),
        *_script(first.script, second.script),
        *_plain("report", first.report, second.report),
        *_artefacts(first.artefacts, second.artefacts),
    ]


def _fields(part: str, first: Any, second: Any, names: tuple[str, ...]) -> Iterator[Difference]:
    for name in names:
        a, b = getattr(first, name), getattr(second, name)
        if a != b:
            yield Difference(part, name, f"{a!r} against {b!r}")


def _plain(part: str, first: Any, second: Any, where: str = "") -> Iterator[Difference]:
    """Leaves of nested mappings and lists that differ, by their dotted path."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            inner = f"{where}.{key}" if where else str(key)
            if key not in first or key not in second:
                yield Difference(part, inner, _only(key in first))
            else:
                yield from _plain(part, first[key], second[key], inner)
    elif _is_list(first) and _is_list(second) and len(first) == len(second):
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            yield from _plain(part, a, b, f"{where}[{index}]")
    elif first != second and not (first != first and second != second):  # a NaN equals a NaN here
        yield Difference(part, where or part, f"{first!r} against {second!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _only(in_first: bool) -> str:
    return f"only in the {'first' if in_first else 'second'}"


def _presence(part: str, first: Any, second: Any) -> Iterator[Difference]:
    if (first is None) != (second is None):
        yield Difference(part, part, _only(first is not None))


def _graph(part: str, first: Graph | None, second: Graph | None) -> Iterator[Difference]:
    if first is None or second is None:
        yield from _presence(part, first, second)
        return
    yield from _fields(part, first, second, ("name", "outputs"))
    for name in dict.fromkeys([*first.by_name, *second.by_name]):
        a, b = first.by_name.get(name), second.by_name.get(name)
        if a is None or b is None:
            yield Difference(part, name, _only(a is not None))
        elif a.kind != b.kind:
            yield Difference(part, name, f"kind {a.kind} against {b.kind}")
        else:
            for field in dataclasses.fields(a):
                if getattr(a, field.name) != getattr(b, field.name):
                    text = f"{field.name} {getattr(a, field.name)!r} against {getattr(b, field.name)!r}"
                    yield Difference(part, name, text)
    order = [name for name in first.by_name if name in second.by_name]
    if order != [name for name in second.by_name if name in first.by_name]:
        yield Difference(part, "layers", "the same layers in another order")


def _params(part: str, first: Params | None, second: Params | None) -> Iterator[Difference]:
    if first is None or second is None:
        yield from _presence(part, first, second)
        return
    yield from _arrays(part, _flat(first), _flat(second))


def _flat(params: Params) -> dict[str, np.ndarray]:
    return {
        f"{layer}/{key}": array for layer, arrays in params.items() for key, array in sorted(arrays.items())
    }


def _arrays(
    part: str, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> Iterator[Difference]:
    for name in dict.fromkeys([*first, *second]):
        if name not in first or name not in second:
            yield Difference(part, name, _only(name in first))
        elif text := _array(first[name], second[name]):
            yield Difference(part, name, text)


def _array(first: np.ndarray, second: np.ndarray) -> str | None:
    """How two arrays differ; floats are compared by their bits, so that a NaN equals itself and -0 is not 0."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return f"{first.dtype} {list(first.shape)} against {second.dtype} {list(second.shape)}"
    size = f"i{first.dtype.itemsize}"
    differing = np.count_nonzero(
        np.ascontiguousarray(first).view(size) != np.ascontiguousarray(second).view(size)
    )
    if not differing:
        return None
    with np.errstate(invalid="ignore"):
        largest = np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)))
    what = "integers" if first.dtype.kind == "i" else "values"
    return f"{differing} of {first.size} {what} differ, by at most {largest:.6g}"


def _quantization(first: Quantization | None, second: Quantization | None) -> Iterator[Difference]:
    part = "quantization"
    if first is None or second is None:
        yield from _presence(part, first, second)
        return
    for name in dict.fromkeys([*first.tensors, *second.tensors]):
        a, b = first.tensors.get(name), second.tensors.get(name)
        if a is None or b is None:
            yield Difference(part, name, f"tensor {_only(a is not None)}")
        else:
            yield from _tensor(name, a, b)
    for name in dict.fromkeys([*first.weights, *second.weights]):
        v, w = first.weights.get(name), second.weights.get(name)
        if v is None or w is None:
            yield Difference(part, name, f"weights {_only(v is not None)}")
            continue
        if v.bits != w.bits:
            yield Difference(part, name, f"weight bits {v.bits} against {w.bits}")
        for key in ("kernel", "scale", "bias"):
            if text := _array(getattr(v, key), getattr(w, key)):
                yield Difference(part, f"{name}/{key}", text)


def _tensor(name: str, first: Any, second: Any) -> Iterator[Difference]:
    for key in ("scale", "zero_point", "bits"):
        a, b = getattr(first, key), getattr(second, key)
        if a != b:
            yield Difference("quantization", name, f"{key.replace('_', ' ')} {a!s} against {b!s}")


def _script(first: str, second: str) -> Iterator[Difference]:
    for line in difflib.ndiff(first.splitlines(), second.splitlines()):
        if line[0] in "-+":
            yield Difference("script", _only(line[0] == "-"), line[2:])


def _artefacts(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> Iterator[Difference]:
    for path in dict.fromkeys([*first, *second]):
        if path not in first or path not in second:
            yield Difference("artefacts", path, _only(path in first))
        elif first[path] != second[path]:
            yield Difference(
                "artefacts", path, f"{len(first[path])} against {len(second[path])} bytes, not the same"
            )
