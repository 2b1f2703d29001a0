"""Which channels of which tensors belong together: the ground that equalization and pruning stand on.

Every value of every tensor carries the number of its channel class. Layers that move values move the numbers by the
same NumPy operation, so flattening, channel shuffles and concatenations need no rule of their own; layers that mix
values unite classes or begin new ones.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Reshape,
    Resize,
    Slice,
    Sub,
    Transpose,
    Weighted,
)
from mz.graph.functions import BY_CHANNEL, HOMOGENEOUS

Purpose = Literal["scale", "removal"]


@dataclass(frozen=True, slots=True)
class Channels:
    """classes: by accelerator tensor, the class of every value, int64 of the tensor's shape (a view, do not write).

    fixed: bool by class; a fixed class must stay as it is: it leaves the accelerator, comes in by an Input, or passes a
    layer that does not allow the change. count: number of classes; class numbers are 0 .. count - 1.
    """

    classes: dict[str, np.ndarray]
    fixed: np.ndarray
    count: int

    def of_tensor(self, name: str) -> np.ndarray:
        """The classes in a tensor, sorted, each once."""
        return np.unique(compact(self.classes[name]))

    def of_outputs(self, graph: Graph, layer: Weighted) -> np.ndarray:
        """Class of each output channel of a weighted layer, int64 [O]."""
        return _channel_axis(layer, self.classes[layer.name])

    def of_inputs(self, graph: Graph, layer: Weighted) -> np.ndarray:
        """Class of each input channel of a weighted layer, int64 [I]."""
        return _channel_axis(layer, self.classes[layer.inputs[0]])


def channel_classes(graph: Graph, purpose: Purpose, scalable: Collection[str] = ()) -> Channels:
    """Partitions the channels of all accelerator tensors.

    purpose `scale`: two channels share a class if multiplying one by a positive number asks the same of the other for
    the network's function to stay; depthwise layers have classes of their own on either side, since their kernels can
    take up a ratio, and so do activation functions, which are fixed on both sides unless `scalable`. `removal`: two
    share a class if removing one removes the other.
    """
    walk = _Walk(graph, purpose, scalable)
    for layer in graph.layers:
        if not layer.host:
            walk.visit(layer)
    for name in graph.accelerator_outputs():
        walk.fix(walk.classes[name])
    return walk.result()


def _channel_axis(layer: Layer, classes: np.ndarray) -> np.ndarray:
    """One class a channel of a tensor whose classes do not vary within a channel: [C, H, W] -> [C], [.., F] -> [F]."""
    return classes[(0,) * (classes.ndim - 1)] if isinstance(layer, Dense) else classes[:, 0, 0]


class _Walk:
    """Union-find over class numbers, and the classes of every tensor seen so far."""

    def __init__(self, graph: Graph, purpose: Purpose, scalable: Collection[str]) -> None:
        self.graph, self.purpose, self.scalable = graph, purpose, scalable
        self.classes: dict[str, np.ndarray] = {}
        self.parent = np.arange(1024)
        self.count = 0
        self.is_fixed: set[int] = set()

    def new(self, count: int) -> np.ndarray:
        first, self.count = self.count, self.count + count
        if self.count > len(self.parent):
            self.parent = np.concatenate([self.parent, np.arange(len(self.parent), 2 * self.count)])
        return np.arange(first, self.count)

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        join(self.parent, compact(a), compact(b))

    def fix(self, classes: np.ndarray) -> None:
        self.is_fixed.update(np.unique(compact(classes)).tolist())

    def visit(self, layer: Layer) -> None:
        inputs = [self.classes[name] for name in layer.inputs]
        self.classes[layer.name] = np.broadcast_to(compact(self.output(layer, inputs)), layer.shape)

    def output(self, layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
        """The classes of the layer's output, of a shape that broadcasts to it."""
        if isinstance(layer, Input):
            out = self.new(layer.shape[0] if len(layer.shape) == 3 else layer.shape[-1])
            self.fix(out)
            return out[:, None, None] if len(layer.shape) == 3 else out
        if isinstance(layer, Weighted):
            return self.weighted(layer, inputs[0])
        if isinstance(layer, Activation):
            return self.activation(layer, inputs[0])
        if isinstance(layer, Add | Sub):
            self.unite(*inputs)
            if layer.clip[1] < np.inf or layer.clip[0] not in (0.0, -np.inf):
                self.bound(inputs[0])
            return np.broadcast_to(inputs[0], layer.shape)
        if isinstance(layer, Mul):
            return self.product(layer, inputs)
        if isinstance(layer, MatMul):
            return np.broadcast_to(self.matrices(*inputs), layer.shape)
        if isinstance(layer, Pad) and any(layer.values):
            self.fix(inputs[0])
        if isinstance(layer, MaxPool | AvgPool | GlobalAvgPool | Resize | Pad):
            return self.map(inputs[0])
        out = moved(layer, inputs)
        if self.purpose == "removal":
            self.keep_regular(layer, inputs[0], out)
        return out

    def keep_regular(self, layer: Layer, x: np.ndarray, out: np.ndarray) -> None:
        """A tensor can lose whole slices along one axis only, and a strided slice whole strides."""
        small = compact(out)
        varying = [a for a in range(out.ndim) if (small != small.take([0], axis=a)).any()]
        if len(varying) > 1:
            longest = max(varying, key=lambda a: out.shape[a])
            self.unite(out, out[tuple(slice(None) if a == longest else slice(0, 1) for a in range(out.ndim))])
        if isinstance(layer, Slice):
            for axis, step in enumerate(layer.steps):
                if step != 1 and x.strides[axis] != 0:
                    first = np.arange(x.shape[axis]) // step * step
                    self.unite(x, x.take(first, axis=axis))

    def activation(self, layer: Activation, x: np.ndarray) -> np.ndarray:
        """A table that may differ by channel takes up a ratio of what comes in to what goes out."""
        if self.purpose == "scale" and layer.function not in HOMOGENEOUS:
            if x.ndim != 3:
                self.fix(x)
                return x
            by_channel, out = self.map(x), self.new(layer.shape[0])
            if layer.name not in self.scalable:
                self.fix(by_channel)
                self.fix(out)
            return out[:, None, None]
        if layer.function in BY_CHANNEL and x.ndim == 3:
            return self.map(x)
        return x

    def weighted(self, layer: Weighted, x: np.ndarray) -> np.ndarray:
        if isinstance(layer, Dense):
            self.unite(x, x[(0,) * (x.ndim - 1)])
            return self.new(layer.shape[-1])
        assert isinstance(layer, Conv | Deconv)
        by_channel = self.map(x)
        if self.purpose == "removal" and 1 < layer.groups == x.shape[0]:
            return np.repeat(by_channel, layer.shape[0] // layer.groups, axis=0)
        out = self.new(layer.shape[0])
        if self.purpose == "removal" and layer.groups > 1:
            self.fix(by_channel)  # a group's weights form a dense block: its channels go for all groups alike
            self.fix(out)
        return out[:, None, None]

    def product(self, layer: Mul, inputs: list[np.ndarray]) -> np.ndarray:
        if self.purpose == "removal":
            self.unite(*inputs)
            return np.broadcast_to(inputs[0], layer.shape)
        # c_y = c_a c_b: one factor keeps its scale, the other hands its on. A gate, which cannot change in any case,
        # is the smaller one.
        big, small = (0, 1) if inputs[0].size >= inputs[1].size else (1, 0)
        self.fix(inputs[small])
        if inputs[big].shape != layer.shape:
            self.fix(inputs[big])
        if layer.clip[1] < np.inf or layer.clip[0] not in (0.0, -np.inf):
            self.bound(inputs[big])
        return inputs[big]

    def matrices(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """What scales a column of the second matrix scales that column of the product; the first keeps its scale."""
        self.fix(a)
        columns = b[..., :1, :]
        self.unite(b, columns)
        if self.purpose == "removal":  # other axes would have to lose the same places
            self.fix(columns)
        return columns

    def bound(self, classes: np.ndarray) -> None:
        """A clip of an element-wise layer is one number for all channels: no channel may grow or shrink under it."""
        if self.purpose == "scale":
            self.fix(classes)

    def map(self, x: np.ndarray) -> np.ndarray:
        """Classes by channel, [C, 1, 1]; places of one channel are united where they differ."""
        first = x[:, :1, :1]
        if (compact(x) != first).any():
            self.unite(x, first)
        return first

    def result(self) -> Channels:
        roots = _roots(self.parent, np.arange(self.count))
        numbers, dense = np.unique(roots, return_inverse=True)
        fixed = np.zeros(len(numbers), dtype=bool)
        fixed[dense[sorted(self.is_fixed)]] = True
        classes = {
            name: np.broadcast_to(dense[compact(value)], value.shape) for name, value in self.classes.items()
        }
        return Channels(classes, fixed, len(numbers))


def join(parent: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Unites the sets of every two numbers that stand beside each other in `a` and `b`, which broadcast.

    parent: int64 by number, changed in place: a number of the same set, itself for its root.
    """
    one, other = np.broadcast_arrays(_roots(parent, a), _roots(parent, b))
    differ = one != other
    # One number for a pair sorts far faster than a row of two.
    ones, others = np.divmod(np.unique(one[differ] * len(parent) + other[differ]), len(parent))
    apart = (np.diff(ones) > 0).all() and not np.isin(others, ones).any()
    if apart:  # no pair changes what another finds
        parent[ones] = others
    else:
        roots, places = np.unique([ones, others], return_inverse=True)
        parent[roots] = roots[_in_turn(*places.reshape(2, -1).tolist())]


def _in_turn(ones: list[int], others: list[int]) -> list[int]:
    """The root of every number up to the largest, after the set of each of the ones went to that of its other."""
    parent = list(range(max(*ones, *others) + 1))

    def find(number: int) -> int:
        root = number
        while parent[root] != root:
            root = parent[root]
        while parent[number] != root:
            parent[number], number = root, parent[number]
        return root

    for one, other in zip(ones, others, strict=True):
        parent[find(one)] = find(other)
    return [find(number) for number in range(len(parent))]


def _roots(parent: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    found = parent[numbers]
    while not np.array_equal(above := parent[found], found):
        found = above
    return found


def compact(x: np.ndarray) -> np.ndarray:
    """One place of every axis along which `x` is a broadcast view: the same values, each fewer times."""
    return x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.strides)]


def moved(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    """What a layer that only moves values does to arrays of its inputs' shapes (values of any dtype)."""
    if isinstance(layer, Reshape):
        return inputs[0].reshape(layer.shape)
    if isinstance(layer, Transpose):
        return inputs[0].transpose(layer.permutation)
    if isinstance(layer, Slice):
        places = zip(layer.starts, layer.stops, layer.steps, strict=True)
        return inputs[0][tuple(slice(*place) for place in places)]
    if isinstance(layer, Concat):
        return np.broadcast_to(_side_by_side(inputs, layer.axis), layer.shape)
    raise AssertionError(f"layer {layer.name!r}: {layer.kind} moves no values")


def _side_by_side(inputs: list[np.ndarray], axis: int) -> np.ndarray:
    """Concatenated, with axes left at one place along which none of the inputs differs."""
    small = [np.moveaxis(compact(x), axis, 0) for x in inputs]
    rest = np.broadcast_shapes(*(x.shape[1:] for x in small))
    parts = [np.broadcast_to(x, (full.shape[axis], *rest)) for x, full in zip(small, inputs, strict=True)]
    return np.moveaxis(np.concatenate(parts), 0, axis)
