"""Gather and GatherND by constant indices: slices, side by side where the order is another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mz.graph import Concat
from mz.parser.draft import Draft
from mz.parser.movement import cut, reshape_to
from mz.parser.node import ON_TENSOR, Node, Rule, Value, constant_settings, own_axis, without_axis

_MOST_RUNS = 64


def image_kept(node: Node) -> str | None:
    """The batch axis is left as it is; the one image of a batch may be picked."""
    kept = all(places.size == 1 for axis, places in _picked(node).items() if axis == node.x.batch_axis)
    return None if kept else ""


def indices_in_runs(node: Node) -> str | None:
    """The indices of an axis come to at most 64 runs."""
    counts = [len(_runs(places)) for places in _picked(node).values()]
    return None if counts and min(counts) > 0 and max(counts) <= _MOST_RUNS else f"{counts}"


def one_axis_after_the_other(node: Node) -> str | None:
    """Each axis of the indices tells places of one axis of the tensor, in the order of these."""
    apart = not node.attribute("batch_dims", 0) and _axes_of_indices(_indices(node)) is not None
    return None if apart else f"indices of shape {list(_indices(node).shape)}"


def gather(node: Node, draft: Draft) -> Value:
    """A slice, or slices side by side; and a reshape where the indices are no list."""
    x = node.x
    for axis, places in _picked(node).items():
        x = places_of(x, axis, places, draft, node.name)
    indices = _indices(node)
    if node.op_type == "GatherND":
        shape = (*indices.shape[:-1], *x.shape[indices.shape[-1] :])
    else:
        axis = node.axis(node.attribute("axis", 0))
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x if shape == x.shape else reshape_to(x, shape, draft, node.name)


def places_of(x: Value, axis: int, places: np.ndarray, draft: Draft, origin: str) -> Value:
    """The value at these places of an axis, in their order."""
    parts = []
    for run in _runs(places):
        step = int(run[1] - run[0]) if run.size > 1 else 1
        ranges = [(0, length, 1) for length in x.shape]
        ranges[axis] = (int(run[0]), int(run[-1]) + 1, step)
        parts.append(cut(x, ranges, draft, origin))
    if len(parts) == 1:
        return parts[0]
    shape = (*x.shape[:axis], places.size, *x.shape[axis + 1 :])
    own = own_axis(axis, x.batch_axis)
    layers = [part.layer for part in parts]
    layer = draft.emit(Concat, layers, without_axis(shape, x.batch_axis), [origin], axis=own)
    return Value(layer, shape, x.batch_axis)


def _runs(places: np.ndarray) -> list[np.ndarray]:
    """Consecutive places that grow by one step, each run as long as can be."""
    runs: list[list[int]] = []
    for place in places.tolist():
        run = runs[-1] if runs else []
        step = run[1] - run[0] if len(run) > 1 else place - run[0] if run else 0
        if step > 0 and place - run[-1] == step:
            run.append(place)
        else:
            runs.append([place])
    return [np.asarray(run) for run in runs]


def _indices(node: Node) -> np.ndarray:
    indices = node.constant(1)
    assert indices is not None
    return indices


def _picked(node: Node) -> dict[int, np.ndarray]:
    """By axis of the tensor, the places that the indices tell, counted from the front."""
    indices, shape = _indices(node), node.x.shape
    if node.op_type == "Gather":
        axis = node.axis(node.attribute("axis", 0))
        found = {axis: indices.reshape(-1)}
    else:
        axes = _axes_of_indices(indices) or []
        found = {axis: _along(indices[..., axis], own) for axis, own in enumerate(axes)}
    return {axis: np.where(places < 0, places + shape[axis], places) for axis, places in found.items()}


def _along(indices: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The indices along these of their axes, at the first place of the others."""
    return indices[tuple(slice(None) if axis in axes else 0 for axis in range(indices.ndim))].reshape(-1)


def _axes_of_indices(indices: np.ndarray) -> list[list[int]] | None:
    """For each axis of a tensor that GatherND's indices pick from, those axes of the indices along which its places
    differ; None where one tells of two, or they are in another order.
    """
    columns = np.moveaxis(indices, -1, 0)
    found: list[list[int]] = [[] for _ in columns]
    last = 0
    for axis, size in enumerate(indices.shape[:-1]):
        differs = [bool(np.any(np.diff(column, axis=axis))) for column in columns]
        if sum(differs) > 1 or (any(differs) and differs.index(True) < last):
            return None
        last = differs.index(True) if any(differs) else last
        if size > 1:
            found[last].append(axis)
    return found


RULES = {
    "Gather": Rule(gather, (*ON_TENSOR, constant_settings, image_kept, indices_in_runs)),
    "GatherND": Rule(
        gather, (*ON_TENSOR, constant_settings, one_axis_after_the_other, image_kept, indices_in_runs)
    ),
}
