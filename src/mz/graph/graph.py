"""The graph: layers in topological order, with the queries that passes ask, and its JSON form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mz.errors import UserError
from mz.graph.layers import (
    LAYER_KINDS,
    Add,
    Conv,
    Deconv,
    Dense,
    HostOp,
    Input,
    Layer,
    MatMul,
    Weighted,
)

Shape = tuple[int, ...]

Params = dict[str, dict[str, np.ndarray]]
"""Arrays by layer name, then by parameter name (`kernel`, `bias`, `slope`)."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a graph is on the accelerator: layers without the inputs, and multiply-accumulates an image."""

    layers: int
    accelerator_layers: int
    macs: int
    accelerator_macs: int

    @property
    def layers_percent(self) -> float:
        return _percent(self.accelerator_layers, self.layers)

    @property
    def macs_percent(self) -> float:
        return _percent(self.accelerator_macs, self.macs)


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0


@dataclass(frozen=True)
class Graph:
    """Layers in topological order; `outputs` names those whose tensors leave the network, in order.

    Immutable: a pass builds a new one, usually with `replace`.
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for layer in self.layers:
            missing = [name for name in layer.inputs if name not in seen]
            if missing:
                raise ValueError(f"{self.name}: layer {layer.name!r} reads {missing} before they exist")
            if layer.name in seen:
                raise ValueError(f"{self.name}: two layers are named {layer.name!r}")
            seen.add(layer.name)
        if unknown := [name for name in self.outputs if name not in seen]:
            raise ValueError(f"{self.name}: outputs {unknown} are no layers")

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def order(self) -> Mapping[str, int]:
        """The place of every layer among `layers`."""
        return {layer.name: index for index, layer in enumerate(self.layers)}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Layer, ...]]:
        """The layers that read each tensor (none for an unread output), in topological order, each once."""
        readers: dict[str, list[Layer]] = {layer.name: [] for layer in self.layers}
        for layer in self.layers:
            for name in dict.fromkeys(layer.inputs):
                readers[name].append(layer)
        return {name: tuple(layers) for name, layers in readers.items()}

    @cached_property
    def weighted(self) -> tuple[Weighted, ...]:
        """The layers with weights on the accelerator, in topological order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Weighted) and not layer.host)

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, Input))

    def __getitem__(self, name: str) -> Layer:
        return self.by_name[name]

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Shapes of the tensors that `layer` reads, without the batch axis."""
        return tuple(self.by_name[name].shape for name in layer.inputs)

    def replace(self, changes: Mapping[str, Layer]) -> Graph:
        """The same graph with each named layer exchanged for another of the same name and place."""
        return dataclasses.replace(
            self, layers=tuple(changes.get(layer.name, layer) for layer in self.layers)
        )

    def summand(self, layer: Weighted) -> str | None:
        """What is added to the layer's unclipped output and is known before it, where nothing else reads that output:
        the layer is the last of two branches that meet in a sum.
        """
        readers = self.consumers[layer.name]
        if len(readers) != 1 or layer.name in self.outputs or not layer.is_linear:
            return None
        (reader,) = readers
        if not isinstance(reader, Add) or reader.host:
            return None
        others = [name for name in reader.inputs if name != layer.name]
        if len(others) != 1 or self[others[0]].shape != layer.shape:
            return None
        return others[0] if self.order[others[0]] < self.order[layer.name] else None

    def accelerator_outputs(self) -> tuple[str, ...]:
        """Integer tensors that leave the accelerator: network outputs, and what host layers read. In order."""
        names = [name for name in self.outputs if not self.by_name[name].host]
        for layer in self.layers:
            if layer.host:
                names += [name for name in layer.inputs if not self.by_name[name].host]
        return tuple(sorted(set(names), key=self.order.__getitem__))

    def macs(self, layer: Layer) -> int:
        """Multiply-accumulates of one layer for one image; 0 for one that is no convolution, dense layer or product
        of matrices.
        """
        if isinstance(layer, Conv):
            (in_shape,) = self.input_shapes(layer)
            return math.prod(layer.shape) * in_shape[0] // layer.groups * math.prod(layer.kernel_shape)
        if isinstance(layer, Deconv):
            (in_shape,) = self.input_shapes(layer)
            return math.prod(in_shape) * layer.shape[0] // layer.groups * math.prod(layer.kernel_shape)
        if isinstance(layer, Dense):
            (in_shape,) = self.input_shapes(layer)
            return math.prod(layer.shape) * in_shape[-1]
        if isinstance(layer, MatMul):
            return math.prod(layer.shape) * self.input_shapes(layer)[0][-1]
        if isinstance(layer, HostOp) and layer.operator == "MatMul":
            factors = list(self.input_shapes(layer))
            for place, shape in layer.constants:
                factors.insert(place, shape)
            return math.prod(layer.shape) * factors[0][-1]
        return 0

    def coverage(self) -> Coverage:
        """The share of layers and multiply-accumulates that the accelerator does."""
        layers = [layer for layer in self.layers if not isinstance(layer, Input)]
        inside = [layer for layer in layers if not layer.host]
        return Coverage(
            layers=len(layers),
            accelerator_layers=len(inside),
            macs=sum(map(self.macs, layers)),
            accelerator_macs=sum(map(self.macs, inside)),
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold; `from_dict` reads it back."""
        return {
            "name": self.name,
            "outputs": list(self.outputs),
            "layers": [{"kind": layer.kind} | _plain(layer) for layer in self.layers],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Graph:
        """The inverse of `to_dict`. Raises UserError for a kind or field that this version does not know."""
        try:
            layers = tuple(_layer(entry) for entry in data["layers"])
            return Graph(name=data["name"], layers=layers, outputs=tuple(data["outputs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the stored graph is not one that this version of mz reads: {error}") from error


def _plain(layer: Layer) -> dict[str, Any]:
    """The layer's fields, defaults left out; infinite clip bounds become null."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if value != field.default:
            plain[field.name] = [_bound(v) for v in value] if field.name == "clip" else value
    return plain


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _layer(entry: Mapping[str, Any]) -> Layer:
    fields = {key: _tupled(value) for key, value in entry.items() if key != "kind"}
    if "clip" in fields:
        low, high = fields["clip"]
        fields["clip"] = (-math.inf if low is None else low, math.inf if high is None else high)
    return LAYER_KINDS[entry["kind"]](**fields)


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def unique_name(prefix: str, taken: Iterable[str]) -> str:
    """`prefix1`, `prefix2`, ...: the first that is not taken."""
    used = set(taken)
    number = 1
    while f"{prefix}{number}" in used:
        number += 1
    return f"{prefix}{number}"
