"""Equalization: channel classes scaled so that weak channels use more of the integers that their layer shares.

One-step and two-step: Meller et al., "Same, Same But Different: Recovering Neural Network Quantization Error Through
Weight Factorization" (ICML 2019), section 4. `dfq`: Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction" (ICCV 2019), section 4.1, iterated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mz.graph import Activation, Graph, Params, Weighted
from mz.graph.functions import BY_CHANNEL, HOMOGENEOUS
from mz.optimize.channels import Channels, channel_classes
from mz.optimize.peaks import Peaks
from mz.optimize.rescaling import by_channel, is_bounded, rescale
from mz.quantize.groups import scale_groups
from mz.quantize.visible import visible_ends

METHODS = ("one_step", "two_step", "dfq")
MAX_SCALE = 16.0
_DFQ_ROUNDS = 20
_DFQ_CONVERGED = 0.01


@dataclass(frozen=True, slots=True)
class EqualizationReport:
    """What was scaled.

    method: one of METHODS. classes: channel classes that may be scaled; scaled: those that were. bundles: sets of
    layers whose outputs were scaled together. factors: of every class, float64 [classes]. layers: weighted layers whose
    output channels changed.
    """

    method: str
    classes: int
    scaled: int
    bundles: int
    factors: np.ndarray
    layers: tuple[str, ...]

    @property
    def smallest(self) -> float:
        return float(self.factors.min(initial=1.0))

    @property
    def largest(self) -> float:
        return float(self.factors.max(initial=1.0))

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "classes": self.classes,
            "scaled": self.scaled,
            "bundles": self.bundles,
            "factors": [round(self.smallest, 4), round(self.largest, 4)],
            "layers": list(self.layers),
        }


def equalize(
    graph: Graph,
    params: Params,
    peaks: Peaks,
    *,
    method: str,
    layer_scale: bool,
    max_scale: float = MAX_SCALE,
    layers: Collection[str] | None = None,
    keep: Collection[str] = (),
    scalable: Collection[str] = (),
) -> tuple[Graph, Params, EqualizationReport]:
    """The same function, its channels scaled.

    peaks: of the float network on calibration images. layer_scale: weights have one scale a layer, so that kernels must
    be equalized too, not activations alone. max_scale: factors stay within 1 / max_scale .. max_scale. layers: only
    classes that these weighted layers put out, or activation functions that read them (all). keep: tensors that must
    stay as they are. scalable: activation functions whose tables may differ by channel (`scalable_functions`).
    """
    channels = channel_classes(graph, "scale", scalable)
    solver = _Solver(graph, params, channels, peaks, layer_scale, max_scale, layers)
    for name in keep:
        solver.pinned[channels.classes[name]] = True
    bundles = solver.bundles()
    if method == "dfq":
        for _ in range(_DFQ_ROUNDS):
            before = solver.factors.copy()
            for bundle in bundles:
                solver.balance(bundle)
            if np.abs(np.log(solver.factors / before)).max(initial=0.0) < _DFQ_CONVERGED:
                break
    else:
        for bundle in bundles:
            if method == "two_step":
                solver.lower(bundle)
            solver.amplify(bundle)
    factors = solver.factors
    for layer in graph.layers:
        if isinstance(layer, Activation) and layer.name in scalable and shares_tables(layer):
            for tensor in (layer.name, *layer.inputs):
                classes = channels.of_tensor(tensor)
                factors[classes] = _power_of_two(factors[classes])
    scaled_graph, scaled_params = rescale(graph, params, channels, factors)
    changed = factors != 1
    return (
        scaled_graph,
        scaled_params,
        EqualizationReport(
            method=method,
            classes=int((~solver.pinned).sum()),
            scaled=int(changed.sum()),
            bundles=sum(bool(changed[bundle.classes].any()) for bundle in bundles),
            factors=factors,
            layers=tuple(name for name, linear in solver.linear.items() if changed[linear.outputs].any()),
        ),
    )


def shares_tables(layer: Activation) -> bool:
    """Whether channels with the same factors have the same table, and any others need tables of their own."""
    return layer.function not in (*HOMOGENEOUS, *BY_CHANNEL)


def _power_of_two(factors: np.ndarray) -> np.ndarray:
    """The one below: a dozen tables then serve hundreds of channels, and floats change in their exponent only."""
    return np.asarray(np.exp2(np.floor(np.log2(factors) + 1e-9)))


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Classes that share tensors, sorted [K], with all that holds them: tensors by name, and the layers with weights
    that make them and read them.
    """

    classes: np.ndarray
    tensors: list[str] = field(default_factory=list)
    makers: list[_Linear] = field(default_factory=list)
    readers: list[_Linear] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Linear:
    """Largest magnitude of every kernel column of every row, [O, I / groups], with the classes on either side: [O], and
    [groups, I / groups], as the rows of a group read the same.
    """

    magnitudes: np.ndarray
    outputs: np.ndarray
    inputs: np.ndarray

    def by_group(self, values: np.ndarray) -> np.ndarray:
        """Values [O, I / groups] as [groups, O / groups, I / groups]."""
        return values.reshape(len(self.inputs), -1, self.inputs.shape[1])


def _largest(
    found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The classes in tensors that share a scale, sorted [K], and the largest magnitude of each, float64 [K].

    found: of each tensor the classes, and the smallest and largest value of each.
    """
    classes, place = np.unique(np.concatenate([one[0] for one in found]), return_inverse=True)
    largest = np.zeros(len(classes))
    np.maximum.at(largest, place, np.concatenate([np.maximum(-low, high) for _, low, high in found]))
    return classes, largest


class _Solver:
    """Factors by class, grown bundle by bundle; magnitudes of kernels and tensors follow from the factors."""

    def __init__(
        self,
        graph: Graph,
        params: Params,
        channels: Channels,
        peaks: Peaks,
        layer_scale: bool,
        max_scale: float,
        layers: Collection[str] | None,
    ) -> None:
        self.layer_scale, self.max_scale = layer_scale, max_scale
        self.factors = np.ones(channels.count)
        self.pinned = channels.fixed.copy()
        self.most = np.full(channels.count, np.inf)
        self.linear: dict[str, _Linear] = {}
        self.tensors: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        wanted = np.zeros(channels.count, dtype=bool)
        ends = {name: peaks.by_class(channels, name) for name in channels.classes}
        for name, (lowest, highest) in visible_ends(graph, params).items():
            classes, low, high = ends[name]
            ends[name] = classes, np.maximum(low, lowest.min()), np.minimum(high, highest.max())
        for group in scale_groups(graph):
            self.tensors[group[0]] = _largest([ends[name] for name in group])
        for layer in graph.layers:
            if (
                isinstance(layer, Activation)
                and not layer.host
                and (layers is None or layer.inputs[0] in layers)
            ):
                wanted[channels.of_tensor(layer.name)] = True
            if layer.host or not isinstance(layer, Weighted):
                continue
            outputs = channels.of_outputs(graph, layer)
            inputs = channels.of_inputs(graph, layer).reshape(getattr(layer, "groups", 1), -1)
            kernel = by_channel(layer, params[layer.name]["kernel"])
            self.linear[layer.name] = _Linear(np.abs(kernel).max(axis=2).astype(np.float64), outputs, inputs)
            if layers is None or layer.name in layers:
                wanted[outputs] = True
            if is_bounded(layer):
                self.limit(layer, *ends[layer.name])
        self.pinned |= ~wanted

    def limit(self, layer: Weighted, classes: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Integers clip at one number a tensor. So a channel that reaches its bound must stay as it is, and the others
        must stay below it.
        """
        for values, bound in ((high, layer.clip[1]), (-low, -layer.clip[0])):
            if np.isfinite(bound) and bound > 0:
                room = np.divide(bound, values, out=np.full(len(values), np.inf), where=values > 0)
                reached = room <= 1 + 1e-5
                self.pinned[classes[reached]] = True
                self.most[classes] = np.minimum(self.most[classes], room)

    def bundles(self) -> list[_Bundle]:
        """Sets of classes that share a tensor, as far as they may be scaled, from the input on."""
        parent = np.arange(len(self.factors))

        def find(number: int) -> int:
            while parent[number] != number:
                parent[number] = parent[parent[number]]
                number = parent[number]
            return number

        for classes, _ in self.tensors.values():
            for number in classes[1:].tolist():
                parent[find(number)] = find(int(classes[0]))
        members: dict[int, list[np.ndarray]] = {}
        for classes, _ in self.tensors.values():
            members.setdefault(find(int(classes[0])), []).append(classes)
        found = {root: _Bundle(np.unique(np.concatenate(parts))) for root, parts in members.items()}
        for name, (classes, _) in self.tensors.items():
            found[find(int(classes[0]))].tensors.append(name)
        for linear in self.linear.values():
            found[find(int(linear.outputs[0]))].makers.append(linear)
            found[find(int(linear.inputs.flat[0]))].readers.append(linear)
        return [bundle for bundle in found.values() if not self.pinned[bundle.classes].all()]

    def tensor_peaks(self, bundle: _Bundle) -> Iterator[np.ndarray]:
        """For every tensor of the bundle: its peak by class over its largest, [K], 0 where the class is absent."""
        for name in bundle.tensors:
            classes, values = self.tensors[name]
            yield _spread(bundle, classes, values * self.factors[classes])

    def producer_peaks(self, bundle: _Bundle) -> Iterator[np.ndarray]:
        """Likewise for the kernels that make the bundle's channels; none where every channel has a scale of its own."""
        if self.layer_scale:
            for linear in bundle.makers:
                yield _spread(bundle, linear.outputs, self._current(linear).max(axis=1))

    def consumer_peaks(self, bundle: _Bundle) -> Iterator[np.ndarray]:
        """Likewise for the kernels that read them, each column over the largest weight with which it shares a scale."""
        for linear in bundle.readers:
            current = self._current(linear)
            if not self.layer_scale:
                largest = current.max(axis=1, keepdims=True)
                current = np.divide(current, largest, out=np.zeros_like(current), where=largest > 0)
            column = linear.by_group(current).max(axis=1)
            yield _spread(bundle, linear.inputs.reshape(-1), column.reshape(-1))

    def _current(self, linear: _Linear) -> np.ndarray:
        made = linear.by_group(linear.magnitudes * self.factors[linear.outputs][:, None])
        return np.asarray(made / self.factors[linear.inputs][:, None]).reshape(linear.magnitudes.shape)

    def amplify(self, bundle: _Bundle) -> None:
        """One-step: weak channels grow until they reach the largest of their kernel or of their tensor."""
        shares = np.max([*self.tensor_peaks(bundle), *self.producer_peaks(bundle)], axis=0)
        self.multiply(bundle, np.divide(1.0, shares, out=np.ones(len(bundle.classes)), where=shares > 0))

    def lower(self, bundle: _Bundle) -> None:
        """First of two steps: dominant channels shrink as far as their consumers have room, and no further than brings
        the layer's largest value down.
        """
        consumers = list(self.consumer_peaks(bundle))
        if not consumers:
            return
        room = np.maximum(np.max(consumers, axis=0), 1 / self.max_scale)
        room[self.pinned[bundle.classes]] = 1.0
        wanted = np.ones(len(bundle.classes))
        for shares in [*self.tensor_peaks(bundle), *self.producer_peaks(bundle)]:
            level = (shares * room).max()
            wanted = np.minimum(
                wanted, np.divide(level, shares, out=np.ones(len(bundle.classes)), where=shares > level)
            )
        self.multiply(bundle, np.maximum(wanted, room))

    def balance(self, bundle: _Bundle) -> None:
        """DFQ: producers' and consumers' ranges of a channel become equal, s = sqrt(r1 r2) / r2. A channel that no
        weights read, but a table, has all the room there is.
        """
        made = np.max(list(self.producer_peaks(bundle)) or list(self.tensor_peaks(bundle)), axis=0)
        read = np.max([np.zeros(len(bundle.classes)), *self.consumer_peaks(bundle)], axis=0)
        read[read == 0] = 1.0
        both = (made > 0) & (read > 0)
        wanted = np.sqrt(np.divide(read, made, out=np.ones(len(bundle.classes)), where=both))
        still = both & self.pinned[bundle.classes]
        anchor = still if still.any() else both
        if anchor.any():  # a common factor changes nothing: pinned channels should be moved least
            wanted[both] /= np.exp(np.log(wanted[anchor]).mean())
        self.multiply(bundle, wanted)

    def multiply(self, bundle: _Bundle, wanted: np.ndarray) -> None:
        movable = ~self.pinned[bundle.classes]
        free = bundle.classes[movable]
        factors = self.factors[free] * wanted[movable]
        top = np.minimum(self.most[free], self.max_scale)
        self.factors[free] = np.clip(factors, 1 / self.max_scale, top)


def _spread(bundle: _Bundle, classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The largest value of each class over the largest of all, [K], 0 for classes that are not among these."""
    found = np.zeros(len(bundle.classes))
    np.maximum.at(found, np.searchsorted(bundle.classes, classes), values)
    largest = values.max(initial=0.0)
    return found / largest if largest > 0 else found
