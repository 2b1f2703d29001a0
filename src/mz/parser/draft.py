"""The network under construction: layers that rules append and passes fold into one another.

Names are provisional (`naming` gives the final ones) and arrays may be float64 until the end. May import the graph and
`node` alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mz.graph import HostOp, Layer, Reshape, Softmax
from mz.parser.node import Value, without_axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Layer):
    """`factor * x + offset` with constants; lives in a draft only. Params: both float64, of the rank of `shape`."""

    kind: ClassVar[str] = "affine"
    prefix: ClassVar[str] = "normalization"


def per_channel(arrays: Mapping[str, np.ndarray], axis: int, size: int) -> dict[str, np.ndarray] | None:
    """An affine's constants with one value for each of the `size` channels on `axis`; None where one varies within a
    channel.
    """
    if any(length > 1 for array in arrays.values() for i, length in enumerate(array.shape) if i != axis):
        return None
    return {name: np.broadcast_to(array.reshape(-1), (size,)) for name, array in arrays.items()}


@dataclass
class Draft:
    """Layers by provisional name, their arrays, who reads whom, and what happened to them.

    normalizations: convolutions that stand for nothing but constants.
    softmaxes: by layer that ends one in integers, what it divides and the reciprocal of what it divides by.
    host_reasons: why a layer, all of whose inputs come from the accelerator, runs on the host.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    params: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    normalizations: set[str] = field(default_factory=set)
    softmaxes: dict[str, tuple[str, str]] = field(default_factory=dict)
    host_reasons: dict[str, str] = field(default_factory=dict)
    _readers: dict[str, set[str]] = field(default_factory=dict)
    _absorbed: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def emit(
        self,
        kind: type[Layer],
        inputs: Sequence[str],
        shape: Sequence[int],
        origin: Sequence[str] = (),
        params: Mapping[str, np.ndarray] | None = None,
        **fields: Any,
    ) -> str:
        """Append a layer; it runs on the host if its kind must or it follows a host layer. Returns its name."""
        self._count += 1
        name = f"{kind.kind}#{self._count}"
        host = kind in (Softmax, HostOp) or any(self.layers[source].host for source in inputs)
        self.layers[name] = kind(
            name=name,
            inputs=tuple(inputs),
            shape=tuple(int(size) for size in shape),
            origin=tuple(origin),
            host=host,
            **fields,
        )
        if params is not None:
            self.params[name] = dict(params)
        self._readers[name] = set()
        for source in inputs:
            self._readers[source].add(name)
        return name

    def view(self, value: Value, batch_axis: int | None, origin: str) -> str:
        """The layer that holds `value` with `batch_axis` left out, by a reshape where its own layer leaves out another.

        With one image the batch axis has size 1: leaving out another axis of size 1, or none, moves no number.
        """
        return self.reshaped(value.layer, without_axis(value.shape, batch_axis), [origin])

    def reshaped(self, source: str, shape: Sequence[int], origin: Sequence[str]) -> str:
        """The layer that holds the numbers of `source` in this shape: itself where that is its own, else a reshape."""
        shape = tuple(shape)
        return source if self.layers[source].shape == shape else self.emit(Reshape, [source], shape, origin)

    def note(self, layer: str, text: str) -> None:
        """Something worth telling about a layer."""
        self.notes.append((layer, text))

    def readers(self, name: str) -> set[str]:
        """The layers that read a tensor."""
        return set(self._readers[name])

    def sole_reader(self, name: str, reader: str) -> bool:
        """Whether nothing but `reader` sees the tensor."""
        return self._readers[name] == {reader} and name not in self.outputs

    def update(self, name: str, **changes: Any) -> None:
        """Change fields of a layer in its place."""
        old = self.layers[name]
        new = dataclasses.replace(old, **changes)
        self.layers[name] = new
        for source in old.inputs:
            self._readers[source].discard(name)
        for source in new.inputs:
            self._readers[source].add(name)

    def substitute(self, name: str, layer: Layer) -> None:
        """Another layer under the same name and in the same place."""
        self.update(name, inputs=())
        self.layers[name] = dataclasses.replace(layer, name=name)
        for source in layer.inputs:
            self._readers[source].add(name)

    def absorb(self, gone: str, survivor: str) -> None:
        """`gone` disappears: who read it reads `survivor`, which stands for its ONNX nodes too."""
        kept, lost = self.layers[survivor], self.layers[gone]
        self.update(gone, inputs=())
        self.update(survivor, origin=tuple(dict.fromkeys(kept.origin + lost.origin)))
        for reader in sorted(self._readers[gone]):
            sources = self.layers[reader].inputs
            self.update(reader, inputs=tuple(survivor if source == gone else source for source in sources))
        self.outputs = [survivor if name == gone else name for name in self.outputs]
        self._absorbed[gone] = survivor
        self._remove(gone)

    def sweep(self) -> None:
        """Remove layers that nothing reads (but inputs and outputs)."""
        for name in reversed(list(self.layers)):
            if not self._readers[name] and name not in self.outputs and self.layers[name].inputs:
                self.update(name, inputs=())
                self._remove(name)

    def in_order(self) -> Iterator[Layer]:
        """Layers in topological order: that of their making, with what a pass added later just before its reader."""
        done: set[str] = set()

        def visit(name: str) -> Iterator[Layer]:
            if name not in done:
                done.add(name)
                for source in self.layers[name].inputs:
                    yield from visit(source)
                yield self.layers[name]

        for name in list(self.layers):
            yield from visit(name)

    def survivor(self, name: str) -> str | None:
        """The layer that now stands for `name`; None where it was swept away."""
        while name in self._absorbed:
            name = self._absorbed[name]
        return name if name in self.layers else None

    def _remove(self, name: str) -> None:
        del self.layers[name], self._readers[name]
        self.params.pop(name, None)
