"""Random small graphs of vectors and maps, with the bits of their tensors: what plans and orders are tried on."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mz.graph import Activation, Add, Concat, Dense, Graph, Input, Layer, Quantization, Reshape, TensorQuant

SHAPES = ((1, 1, 24), (24,), (6, 2, 2), (4, 3, 2), (7,), (1, 40, 1), (40,))


@st.composite
def graphs(draw: st.DrawFn, max_layers: int = 9) -> tuple[Graph, Quantization]:
    """Layers of five kinds over any earlier tensors; some outputs, perhaps a tensor that nobody reads."""
    inputs = draw(st.integers(1, 2))
    layers: list[Layer] = [
        Input(name=f"x{i}", inputs=(), shape=draw(st.sampled_from(SHAPES))) for i in range(inputs)
    ]
    for number in range(draw(st.integers(1, max_layers))):
        layers.append(_layer(draw, f"t{number}", layers))
    names = [layer.name for layer in layers]
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    bits = {name: draw(st.sampled_from((4, 8, 16))) for name in names}
    for layer in layers:  # what moves integers keeps their bits
        if isinstance(layer, Reshape):
            bits[layer.name] = bits[layer.inputs[0]]
    return Graph("random", tuple(layers), tuple(outputs)), with_bits(bits)


def with_bits(bits: dict[str, int]) -> Quantization:
    """A quantization that says nothing but the bits of tensors."""
    return Quantization({name: TensorQuant(np.float32(1), 0, b) for name, b in bits.items()})


def _layer(draw: st.DrawFn, name: str, layers: list[Layer]) -> Layer:
    source = draw(st.sampled_from(layers))
    kind = draw(st.sampled_from(("table", "dense", "reshape", "add", "concat")))
    if kind == "dense":
        shape = (*source.shape[:-1], draw(st.sampled_from((3, 8, 50))))
        return Dense(name=name, inputs=(source.name,), shape=shape)
    size = int(np.prod(source.shape))
    if kind == "reshape":
        shape = draw(st.sampled_from([shape for shape in (*SHAPES, (size,)) if np.prod(shape) == size]))
        return Reshape(name=name, inputs=(source.name,), shape=shape)
    alike = [layer for layer in layers if layer.shape == source.shape]
    if kind == "add":
        return Add(name=name, inputs=(source.name, draw(st.sampled_from(alike)).name), shape=source.shape)
    if kind == "concat":
        other = draw(st.sampled_from(alike))
        shape = (2 * source.shape[0], *source.shape[1:])
        return Concat(name=name, inputs=(source.name, other.name), shape=shape)
    return Activation(name=name, inputs=(source.name,), shape=source.shape, function="abs")
