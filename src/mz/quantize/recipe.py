"""The quantization recipe: every choice of a run, explicit, printable, and stored in the archive."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mz.errors import UserError
from mz.graph import Graph, Precision

_LARGEST = 3.4e38
"""No float32 value is much larger."""

RANGE_METHODS = ("auto", "min_max", "percentile", "mse", "l3", "l1_5", "entropy")


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """How a tensor's range is found.

    method: `auto` (the best known for the bits), `min_max`, `mse`, `l3` (least cubed error), `l1_5`
    (least error to the power 1.5), `entropy` (least
    Kullback-Leibler divergence), `percentile` (bounds in 0..100) or `manual` (bounds real).
    """

    method: str = "auto"
    bounds: tuple[float, float] = (0.01, 99.99)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a graph is quantized.

    precision: of every layer that `layer_precisions` does not name. input_ranges: by Input layer, where the range is
    known beforehand, as that of pixels is; `layer_ranges` win over them. per_layer_weight_scale: one weight scale a
    layer instead of one per output channel. weight_search: weight scales by least squared error instead of the largest
    weight.
    """

    precision: Precision = field(default_factory=Precision)
    layer_precisions: Mapping[str, Precision] = field(default_factory=dict)
    activation_range: ActivationRange = field(default_factory=ActivationRange)
    layer_ranges: Mapping[str, ActivationRange] = field(default_factory=dict)
    input_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weight_search: bool = True
    layer_weight_search: Mapping[str, bool] = field(default_factory=dict)
    per_layer_weight_scale: bool = False

    def precision_of(self, name: str) -> Precision:
        return self.layer_precisions.get(name, self.precision)

    def activation_bits(self, group: Iterable[str]) -> int:
        """Of tensors that share a scale: the most that any of their layers asks for."""
        return max(self.precision_of(name).activation_bits for name in group)

    def searches_weights(self, name: str) -> bool:
        """Whether the weight scales of layer `name` are searched."""
        return self.layer_weight_search.get(name, self.weight_search)

    @property
    def leaves_ranges_open(self) -> bool:
        """Whether the method of the ranges is to be tried: at 16 bits there is no choice to make."""
        return self.activation_range.method == "auto" and self.precision.activation_bits <= 8

    def with_ranges_by(self, method: str) -> Recipe:
        """The same with one method for all ranges that are not set layer by layer."""
        return dataclasses.replace(self, activation_range=ActivationRange(method))

    def with_fine_weights(self) -> Recipe:
        """The same with 16-bit weights: what is left is the noise of the activations, which rounding cannot mend."""
        return dataclasses.replace(
            self,
            weight_search=False,
            precision=_fine(self.precision),
            layer_precisions={name: _fine(one) for name, one in self.layer_precisions.items()},
        )

    def with_mended_weights(self) -> Recipe:
        """The same with weights of two bits more, to the nearest integers: about the noise that second-order rounding
        leaves (docs/full-precision-evidence.md, section 7), at the price of a trial without it.
        """
        return dataclasses.replace(
            self,
            weight_search=False,
            layer_weight_search={},
            precision=_mended(self.precision),
            layer_precisions={name: _mended(one) for name, one in self.layer_precisions.items()},
        )

    def check(self, graph: Graph) -> None:
        """Raises UserError where the recipe names a layer that the graph does not have, or an empty range."""
        for names in (self.layer_precisions, self.layer_ranges, self.layer_weight_search):
            if unknown := [name for name in names if name not in graph.by_name]:
                raise UserError(
                    f"{graph.name} has no layer named {', '.join(unknown)}; `mz har info` lists them"
                )
        for name, how in self.layer_ranges.items():
            low, high = how.bounds
            if how.method == "manual" and not -_LARGEST <= low < high <= _LARGEST:
                raise UserError(f"layer {name}: the range [{low:g}, {high:g}] must rise, as in [0, 6]")

    def to_dict(self, graph: Graph) -> dict[str, Any]:
        """The recipe in plain data, with the precision of every layer that has not the common one."""
        return {
            "precision": str(self.precision),
            "activation_range": self.activation_range.method,
            "weight_scale": "per_layer" if self.per_layer_weight_scale else "per_channel",
            "weight_search": self.weight_search,
            "layer_precisions": {
                layer.name: str(self.precision_of(layer.name))
                for layer in graph.layers
                if not layer.host and self.precision_of(layer.name) != self.precision
            },
            "layer_ranges": {
                name: [how.method, *how.bounds] if how.method in ("percentile", "manual") else [how.method]
                for name, how in self.layer_ranges.items()
            },
            "input_ranges": {name: list(ends) for name, ends in self.input_ranges.items()},
            "layer_weight_search": dict(self.layer_weight_search),
        }


def _fine(precision: Precision) -> Precision:
    return Precision(precision.activation_bits, 16)


def _mended(precision: Precision) -> Precision:
    return Precision(precision.activation_bits, min(precision.weight_bits + 2, 16))
