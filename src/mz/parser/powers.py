"""Powers of one tensor that exporters write as several nodes, merged: 1 / sqrt(x + epsilon) is one `power`.

A pass over a draft, to be run while constants are still `Affine`: in integers one table then rounds once, and holds an
epsilon exactly that would vanish in a convolution's bias. The algebra is exact; nothing is matched by its form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mz.graph import Activation, Layer
from mz.parser.draft import Affine, Draft

SMALLEST = float(np.finfo(np.float32).tiny)
"""Bounds nearer to 0 would be 0 on many a processor, and a division by them one by 0."""


@dataclass(frozen=True, slots=True)
class Power:
    """(factor x + offset) ^ exponent, where a base below 0 counts as 0 unless the exponent is a whole number."""

    exponent: float
    offset: float = 0.0
    factor: float = 1.0

    @property
    def constants(self) -> tuple[float, ...]:
        """As an Activation `power` holds them."""
        numbers = (self.exponent, self.offset, self.factor)
        return numbers[:2] if self.factor == 1 else numbers

    def of_affine(self, factor: float, offset: float) -> Power:
        """This power of `factor x + offset`."""
        return Power(self.exponent, self.factor * offset + self.offset, self.factor * factor)

    def of_power(self, inner: Power) -> Power | None:
        """This power of another; None where that is no power, or the sign of the base would begin to count.

        f (b^q) is (f^(1/q) b)^q.
        """
        exponent = self.exponent * inner.exponent
        if self.offset or self.factor <= 0 or inner.exponent.is_integer() or exponent.is_integer():
            return None
        gain = self.factor ** (1 / inner.exponent)
        return Power(exponent, gain * inner.offset, gain * inner.factor)


def merge_powers(draft: Draft) -> None:
    """Constants, roots and other powers before a power go into it, where nothing but powers reads them."""
    for name in [layer.name for layer in draft.in_order() if isinstance(layer, Activation)]:
        if name not in draft.layers:
            continue
        _put_bounds_first(draft, draft.layers[name])
        power = _power(draft.layers[name])
        while power is not None:
            (source,) = draft.layers[name].inputs
            before = draft.layers[source]
            readers = [draft.layers[reader] for reader in draft.readers(source)]
            if source in draft.outputs or any(_power(reader) is None for reader in readers):
                break
            power = _joined(draft, power, before)
            if power is not None:
                origin = dict.fromkeys((*before.origin, *draft.layers[name].origin))
                draft.update(
                    name,
                    inputs=before.inputs,
                    origin=tuple(origin),
                    function="power",
                    constants=power.constants,
                )
                draft.note(name, f"{', '.join(before.origin)} merged into it")
                draft.sweep()


def _put_bounds_first(draft: Draft, layer: Layer) -> None:
    """clip(b^q, low, high) is clip(b, low^(1/q), high^(1/q))^q: a power that divides then meets the root before it."""
    if not isinstance(layer, Activation) or layer.function != "clip" or layer.host:
        return
    root = draft.layers[layer.inputs[0]]
    power = _power(root)
    rising = power is not None and not power.exponent.is_integer() and min(power.exponent, power.factor) > 0
    if power is None or not rising or layer.constants[0] < 0 or not draft.sole_reader(root.name, layer.name):
        return
    bounds = [(bound ** (1 / power.exponent) - power.offset) / power.factor for bound in layer.constants]
    if any(0 < abs(bound) < SMALLEST for bound in bounds):
        return
    draft.update(layer.name, function="power", constants=power.constants)
    draft.update(root.name, function="clip", constants=tuple(bounds))


def _power(layer: Layer) -> Power | None:
    """The layer as a power; None where it is none, or runs on the host."""
    if not isinstance(layer, Activation) or layer.host:
        return None
    if layer.function == "sqrt":
        return Power(0.5)
    return Power(*layer.constants) if layer.function == "power" else None


def _joined(draft: Draft, power: Power, before: Layer) -> Power | None:
    """The power of what the layer before it reads."""
    if isinstance(before, Affine):
        constants = draft.params[before.name]
        if any(np.size(array) > 1 for array in constants.values()):
            return None
        return power.of_affine(*(float(constants[key].reshape(())) for key in ("factor", "offset")))
    inner = _power(before)
    return None if inner is None else power.of_power(inner)
