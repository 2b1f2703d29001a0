"""What lowering a layer gives: its constants, its struct, its calls, and the scratch that these need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mz.compiler.emitters.c99.text import array, declaration, struct
from mz.graph import Graph, Layer, Quantization, Shape, TensorQuant


@dataclass(frozen=True)
class Context:
    """A layer on its way into C. name: its C name. prefix: the network's, for what other files see."""

    graph: Graph
    quantization: Quantization
    layer: Layer
    name: str
    prefix: str

    @property
    def tensor(self) -> TensorQuant:
        return self.quantization.tensors[self.layer.name]

    @property
    def inputs(self) -> tuple[TensorQuant, ...]:
        return tuple(self.quantization.tensors[name] for name in self.layer.inputs)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return self.graph.input_shapes(self.layer)

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)


@dataclass
class Part:
    """One layer in C.

    arrays: what the constants' file defines, by full name. structs: definitions. calls: statements, with `{x0}`, `{x1}`
    for the inputs' addresses, `{y}` for the output's and `{s}` for the scratch's. scratch: its bytes.
    copies: whether the only call moves the input as it lies, so that it falls away where both lie at one place.
    """

    context: Context
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    structs: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    scratch: int = 0
    copies: bool = False

    def constant(self, suffix: str, values: np.ndarray) -> str:
        """Enters an array and gives its C name."""
        name = f"{self.context.prefix}_{self.context.name}_{suffix}"
        self.arrays[name] = values
        return name

    def call(
        self, function: str, kind: str, suffix: str, fields: Mapping[str, object], *operands: str
    ) -> None:
        """Enters a struct of type `kind`, and the call of `function` with it and `operands`."""
        name = f"{self.context.name}_{suffix}"
        self.structs.append(struct(kind, name, fields))
        self.calls.append(f"{function}(&{name}, {', '.join(operands)});")

    def definitions(self) -> str:
        return "\n".join(array(name, values) for name, values in self.arrays.items())

    def declarations(self) -> str:
        return "".join(declaration(name, values) for name, values in self.arrays.items())


def output_range(low: int, high: int, zero: int) -> dict[str, object]:
    """An mz_range: bounds less the zero point, and the zero point."""
    return {"low": float(low - zero), "high": float(high - zero), "zero": zero}
