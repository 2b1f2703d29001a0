"""Chains of reshapes, transposes and slices, replaced by one layer where one does the same.

A chain moves numbers, so it is known by where it puts them: the indices of the source tensor are sent through it, and
the result compared with what nothing, one reshape, one slice or one transpose would give. A channel shuffle that an
exporter wrote as four layers ends as one slice with step 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mz.graph import Layer, Reshape, Slice, Transpose
from mz.parser.draft import Draft

LONGEST_CHAIN = 6
LARGEST_TENSOR = 1 << 22


def simplify_moves(draft: Draft) -> None:
    """Replace each layer that ends a chain of moves by the simplest layer on the chain's source."""
    for name in list(draft.layers):
        layer = draft.layers.get(name)
        if not _is_move(layer):
            continue
        for chain in _chains(draft, name):
            source = draft.layers[chain[0].inputs[0]]
            if np.prod(source.shape) > LARGEST_TENSOR:
                continue
            origin = tuple(dict.fromkeys(node for move in chain for node in move.origin))
            if _replace(draft, chain[-1], source, _sent(chain, source.shape), origin, len(chain)):
                break
    draft.sweep()


def _replace(
    draft: Draft, layer: Layer, source: Layer, sent: np.ndarray, origin: tuple[str, ...], length: int
) -> bool:
    """Put the simplest layer that moves numbers as `sent` in the place of `layer`. False if none is simpler."""
    in_sequence = sent.size == np.prod(source.shape) and np.array_equal(sent.ravel(), np.arange(sent.size))
    if in_sequence and layer.shape == source.shape and layer.name not in draft.outputs:
        draft.absorb(layer.name, source.name)
        return True
    if length == 1:
        return False
    common: dict[str, Any] = {
        "name": layer.name,
        "inputs": (source.name,),
        "shape": layer.shape,
        "origin": origin,
        "host": layer.host,
    }
    simpler: Layer | None = None
    if in_sequence:
        simpler = Reshape(**common)
    elif bounds := _as_slice(sent, source.shape):
        starts, stops, steps = bounds
        simpler = Slice(**common, starts=starts, stops=stops, steps=steps)
    elif permutation := _as_transpose(sent, source.shape):
        simpler = Transpose(**common, permutation=permutation)
    if simpler is None:
        return False
    draft.substitute(layer.name, simpler)
    draft.note(layer.name, f"does the work of {', '.join(origin)}")
    return True


def _is_move(layer: Layer | None) -> bool:
    return isinstance(layer, Reshape | Transpose | Slice)


def _chains(draft: Draft, name: str) -> list[list[Layer]]:
    """Every run of moves that ends in `name`, longest first, each from its first move to its last."""
    chain: list[Layer] = []
    chains: list[list[Layer]] = []
    layer = draft.layers[name]
    while _is_move(layer) and len(chain) < LONGEST_CHAIN:
        chain = [layer, *chain]
        chains = [chain, *chains]
        layer = draft.layers[layer.inputs[0]]
    return chains


def _sent(chain: list[Layer], shape: tuple[int, ...]) -> np.ndarray:
    """For every number that leaves the chain, its index in the source tensor."""
    indices = np.arange(int(np.prod(shape))).reshape(shape)
    for move in chain:
        if isinstance(move, Transpose):
            indices = indices.transpose(move.permutation)
        elif isinstance(move, Slice):
            cuts = zip(move.starts, move.stops, move.steps, strict=True)
            indices = indices[tuple(slice(*cut) for cut in cuts)]
        else:
            indices = indices.reshape(move.shape)
    return indices


def _strides(sent: np.ndarray) -> list[int]:
    """How far in the source one step along each axis goes; 0 along an axis of size 1."""
    first = sent.ravel()[0]
    steps = []
    for axis, size in enumerate(sent.shape):
        place = [0] * sent.ndim
        place[axis] = min(1, size - 1)
        steps.append(int(sent[tuple(place)] - first))
    return steps


def _as_slice(sent: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...] | None:
    """Starts, stops and steps of the slice that moves numbers so."""
    if sent.ndim != len(shape):
        return None
    indices = np.arange(int(np.prod(shape))).reshape(shape)
    starts = tuple(int(place) for place in np.unravel_index(sent.ravel()[0], shape))
    pitches = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    steps = tuple(max(step // pitch, 1) for step, pitch in zip(_strides(sent), pitches, strict=True))
    stops = tuple(
        start + (size - 1) * step + 1 for start, size, step in zip(starts, sent.shape, steps, strict=True)
    )
    cut = indices[tuple(slice(*bounds) for bounds in zip(starts, stops, steps, strict=True))]
    return (starts, stops, steps) if np.array_equal(cut, sent) else None


def _as_transpose(sent: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The permutation that moves numbers so."""
    if sorted(sent.shape) != sorted(shape):
        return None
    indices = np.arange(sent.size).reshape(shape)
    by_pitch = sorted(range(len(shape)), key=lambda axis: (shape[axis] == 1, -_strides(indices)[axis]))
    by_step = sorted(range(len(shape)), key=lambda axis: (sent.shape[axis] == 1, -_strides(sent)[axis]))
    permutation = [0] * len(shape)
    for target, source in zip(by_step, by_pitch, strict=True):
        permutation[target] = source
    return tuple(permutation) if np.array_equal(indices.transpose(permutation), sent) else None
