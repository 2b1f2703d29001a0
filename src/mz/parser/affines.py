"""Passes over a draft that put multiplications and additions of constants into weights, before or behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from mz.graph import (
    Activation,
    Conv,
    Deconv,
    Dense,
    HostOp,
    Layer,
    MatMul,
    Reshape,
    Slice,
    Transpose,
    Weighted,
)
from mz.graph.functions import BY_CHANNEL, HOMOGENEOUS
from mz.graph.layers import UNBOUNDED
from mz.parser.draft import Affine, Draft, per_channel

Arrays = Mapping[str, np.ndarray]

_AS_THEY_ARE = (*HOMOGENEOUS, *BY_CHANNEL, "clip")
"""Functions that take up no affine: others would lose what their form is worth, a clip that it joins its maker."""


def merge_affines(draft: Draft) -> None:
    """b * (a * x + c) + d, read by nothing else on the way, is (b a) * x + (b c + d)."""
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        (source,) = draft.layers[layer.name].inputs
        if isinstance(draft.layers[source], Affine) and draft.sole_reader(source, layer.name):
            first, second = draft.params[source], draft.params[layer.name]
            first["offset"] = first["offset"] * second["factor"] + second["offset"]
            first["factor"] = first["factor"] * second["factor"]
            draft.absorb(layer.name, source)


def fold_affines(draft: Draft) -> None:
    """a * (w x + b) + c is (a w) x + (a b + c), where a and c have one value per output channel of w.

    The layer with weights must be unclipped and read by nothing else.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        source = _behind_reshapes(draft, layer.name)
        before = draft.layers[source]
        if _not_foldable(draft, before, layer):
            continue
        constants = _per_channel(draft, before, layer)
        assert isinstance(before, Weighted) and constants is not None
        factor, params = constants["factor"], draft.params[source]
        params["kernel"] = _scaled(before, params["kernel"].astype(np.float64), factor)
        params["bias"] = params["bias"].astype(np.float64) * factor + constants["offset"]
        draft.note(source, f"{', '.join(layer.origin)} folded into its weights")
        draft.absorb(layer.name, draft.layers[layer.name].inputs[0])


def fold_into_readers(draft: Draft) -> None:
    """w (a x + c) + b is (w a) x + (w c + b), where a and c have one value per input channel of w.

    Nothing but layers with weights may read the affine, moves between them aside. Pads are zeros of a x + c, so where
    there are any, c must be 0.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine) or layer.host:
            continue
        full = {name: np.broadcast_to(array, layer.shape) for name, array in draft.params[layer.name].items()}
        folds = list(_folds(draft, layer, full))
        if not folds or None in folds:
            continue
        for reader, constants in filter(None, folds):
            params = draft.params[reader.name]
            kernel = params["kernel"].astype(np.float64)
            shift = _summed(reader, _scaled_inputs(reader, kernel, constants["offset"]))
            params["bias"] = params["bias"].astype(np.float64) + shift
            params["kernel"] = _scaled_inputs(reader, kernel, constants["factor"])
            draft.note(reader.name, f"{', '.join(layer.origin)} folded into its weights")
        draft.absorb(layer.name, layer.inputs[0])


def fold_into_products(draft: Draft) -> None:
    """A positive number that multiplies a product of matrices or one of its factors becomes that layer's `factor`.

    Moves between the two are no hindrance. Offsets behind the product stay.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine) or layer.host:
            continue
        params = draft.params[layer.name]
        number = float(params["factor"].flat[0])
        if number <= 0 or number == 1 or np.any(params["factor"] != number):
            continue
        products = _products(draft, layer, idle=not np.any(params["offset"]))
        for name in products:
            product = draft.layers[name]
            assert isinstance(product, MatMul)
            draft.update(name, factor=product.factor * number)
            draft.note(name, f"{', '.join(layer.origin)} folded into its factor")
        if products and np.any(params["offset"]):
            params["factor"] = np.ones_like(params["factor"])
        elif products:
            draft.absorb(layer.name, layer.inputs[0])


def _products(draft: Draft, layer: Affine, *, idle: bool) -> list[str]:
    """The products of matrices that can take the affine's factor: the one before it, or with an idle offset all those
    that alone read it.
    """
    (source,), name = layer.inputs, layer.name
    while isinstance(draft.layers[source], Reshape | Transpose) and draft.sole_reader(source, name):
        name, (source,) = source, draft.layers[source].inputs
    if isinstance(draft.layers[source], MatMul) and draft.sole_reader(source, name):
        return [source]
    found, places = [], [layer.name] if idle and layer.name not in draft.outputs else []
    while places:
        name = places.pop()
        for reader in sorted(draft.readers(name)):
            one = draft.layers[reader]
            if one.host or (reader in draft.outputs and not isinstance(one, MatMul)):
                return []
            if isinstance(one, Reshape | Transpose | Slice):
                places.append(reader)
            elif isinstance(one, MatMul):
                found += [reader] * one.inputs.count(name)
            else:
                return []
    return found


def fold_into_functions(draft: Draft) -> None:
    """A number that multiplies what an activation function makes, and one that is added, become part of its table.

    Nothing else may read the function. Homogeneous ones stay as they are, so that equalization can scale channels
    through them, and so does one with a pole, whose largest value is bounded by what it reads.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        before = draft.layers[layer.inputs[0]]
        if (
            not isinstance(before, Activation)
            or before.host
            or not draft.sole_reader(before.name, layer.name)
        ):
            continue
        constants = draft.params[layer.name]
        if (
            before.function in _AS_THEY_ARE
            or before.divides
            or any(np.ptp(array) for array in constants.values())
        ):
            continue
        factor, offset = (float(constants[name].flat[0]) for name in ("factor", "offset"))
        draft.update(before.name, affine=(factor * before.affine[0], factor * before.affine[1] + offset))
        draft.note(before.name, f"{', '.join(layer.origin)} folded into its table")
        draft.absorb(layer.name, before.name)


def lower_affines(draft: Draft) -> None:
    """An affine that is left becomes a depthwise 1x1 convolution; on the host, a product and a sum.

    Its channels are the axes up to the last along which the constants vary; a reshape around it makes them one.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        if reason := _not_foldable(draft, draft.layers[_behind_reshapes(draft, layer.name)], layer):
            draft.note(layer.name, f"{', '.join(layer.origin)} stays a layer: {reason}")
        shape, params = layer.shape, draft.params.pop(layer.name)
        if layer.host:
            _apply_on_host(draft, layer, params)
            continue
        varying = [axis for array in params.values() for axis in range(len(shape)) if array.shape[axis] > 1]
        depth = max([axis + 1 for axis in varying] or [1])
        channels = math.prod(shape[:depth])
        direct = len(shape) == 3 and depth == 1
        full = (*shape[:depth], *(1,) * (len(shape) - depth))
        factor, offset = (
            np.broadcast_to(params[name], full).reshape(channels) for name in ("factor", "offset")
        )
        target = shape if direct else (channels, math.prod(shape[depth:]), 1)
        arrays = {"kernel": factor.reshape(channels, 1, 1, 1), "bias": offset}
        source = layer.inputs[0] if direct else draft.emit(Reshape, layer.inputs, target, layer.origin)
        conv = draft.emit(Conv, [source], target, layer.origin, arrays, kernel_shape=(1, 1), groups=channels)
        draft.normalizations.add(conv)
        draft.substitute(
            layer.name, Reshape(name="", inputs=(conv,), shape=shape, origin=layer.origin, host=layer.host)
        )
        if direct:
            draft.absorb(layer.name, conv)


def _apply_on_host(draft: Draft, layer: Affine, params: Arrays) -> None:
    """`factor * x + offset` by the operators Mul and Add."""
    factor, offset = params["factor"], params["offset"]
    origin = layer.origin
    product = draft.emit(
        HostOp,
        layer.inputs,
        layer.shape,
        origin,
        {"input1": factor},
        operator="Mul",
        constants=((1, factor.shape),),
    )
    total = HostOp(
        name="",
        inputs=(product,),
        shape=layer.shape,
        origin=origin,
        host=True,
        operator="Add",
        constants=((1, offset.shape),),
    )
    draft.substitute(layer.name, total)
    draft.params[layer.name] = {"input1": offset}
    for name, idle in ((layer.name, not np.any(offset)), (product, bool(np.all(factor == 1.0)))):
        (source,) = draft.layers[name].inputs
        if idle and name not in draft.outputs:
            draft.absorb(name, source)


def _behind_reshapes(draft: Draft, name: str) -> str:
    """The convolution behind reshapes that leave its channels in front and that nothing else reads; else the input."""
    (source,) = draft.layers[name].inputs
    found = source
    while isinstance(layer := draft.layers[found], Reshape) and draft.sole_reader(found, name):
        name, (found,) = found, layer.inputs
        if draft.layers[found].shape[:1] != layer.shape[:1]:
            return source
    return found if isinstance(draft.layers[found], Conv | Deconv) else source


def _not_foldable(draft: Draft, before: Layer, layer: Affine) -> str | None:
    """Why the affine cannot go into the layer before it; None where it can."""
    if not isinstance(before, Weighted):
        return f"the {before.kind} before it has no weights"
    if before.clip != UNBOUNDED:
        return f"the {before.kind} before it is clipped"
    if len(draft.readers(before.name)) > 1 or before.name in draft.outputs:
        return f"the {before.kind} before it is read elsewhere too"
    if _per_channel(draft, before, layer) is None:
        return "its constants vary within a channel"
    return None


def _per_channel(draft: Draft, before: Layer, layer: Affine) -> dict[str, np.ndarray] | None:
    """The affine's constants by the output channels of the layer before it."""
    axis = len(before.shape) - 1 if isinstance(before, Dense) else 0
    return per_channel(draft.params[layer.name], axis, before.shape[axis])


def _scaled(layer: Weighted, kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The kernel with every output channel multiplied by its factor."""
    if isinstance(layer, Deconv):
        per_group = (layer.groups, -1, *kernel.shape[1:])
        factors = factor.reshape(layer.groups, 1, kernel.shape[1], 1, 1)
        return (kernel.reshape(per_group) * factors).reshape(kernel.shape)
    return kernel * factor.reshape(-1, *(1,) * (kernel.ndim - 1))


def _folds(draft: Draft, layer: Layer, constants: Arrays) -> Iterator[tuple[Weighted, Arrays] | None]:
    """Each reader with the constants [C] of its input channels; None for one that cannot have them in its weights.

    constants: float64 of the shape of `layer`, the affine or a move behind it.
    """
    if layer.name in draft.outputs:
        yield None
    for reader in (draft.layers[name] for name in sorted(draft.readers(layer.name))):
        if isinstance(reader, Transpose) and not reader.host:
            yield from _folds(
                draft, reader, {n: x.transpose(reader.permutation) for n, x in constants.items()}
            )
        elif isinstance(reader, Reshape) and not reader.host:
            yield from _folds(draft, reader, {n: x.reshape(reader.shape) for n, x in constants.items()})
        else:
            yield _fold(draft, reader, constants)


def _fold(draft: Draft, reader: Layer, constants: Arrays) -> tuple[Weighted, Arrays] | None:
    if not isinstance(reader, Weighted) or reader.host:
        return None
    axis = -1 if isinstance(reader, Dense) else 0
    by_channel = {}
    for name, array in constants.items():
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        if np.any(rows != rows[:, :1]):
            return None
        by_channel[name] = rows[:, 0]
    pads = isinstance(reader, Deconv) or (isinstance(reader, Conv) and any(reader.pads))
    return None if pads and np.any(by_channel["offset"]) else (reader, by_channel)


def _scaled_inputs(layer: Weighted, kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The kernel with what it multiplies of every input channel multiplied by that channel's factor."""
    if isinstance(layer, Dense):
        return kernel * factor
    if isinstance(layer, Deconv):
        return kernel * factor.reshape(-1, 1, 1, 1)
    assert isinstance(layer, Conv)
    grouped = kernel.reshape(layer.groups, -1, *kernel.shape[1:])
    return (grouped * factor.reshape(layer.groups, 1, -1, 1, 1)).reshape(kernel.shape)


def _summed(layer: Weighted, kernel: np.ndarray) -> np.ndarray | float:
    """What an output channel makes of ones in all its places; a transposed convolution's is not the same everywhere."""
    return 0.0 if isinstance(layer, Deconv) else kernel.reshape(len(kernel), -1).sum(axis=1)
