"""Which tensors that normalizations centre have 16 bits."""

from __future__ import annotations

import pytest

from mz.graph import (
    Activation,
    Add,
    Conv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    Mul,
    Reshape,
    Sub,
)
from mz.quantize import residual_streams

SHAPE, ROW = (5, 8), (5, 1)


def layer(cls, name: str, shape: tuple[int, ...], *inputs: str, **fields) -> Layer:
    return cls(name=name, inputs=inputs, shape=shape, **fields)


def normalized(of: str, end: str) -> tuple[Layer, ...]:
    """A layer normalization over the last axis, whose result is `y` with this letter behind it."""
    return (
        layer(Reshape, f"map{end}", (5, 8, 1), of),
        layer(GlobalAvgPool, f"mean{end}", (5, 1, 1), f"map{end}"),
        layer(Reshape, f"means{end}", ROW, f"mean{end}"),
        layer(Sub, f"sub{end}", SHAPE, of, f"means{end}"),
        layer(Mul, f"square{end}", SHAPE, f"sub{end}", f"sub{end}"),
        layer(Reshape, f"squares{end}", (5, 8, 1), f"square{end}"),
        layer(GlobalAvgPool, f"variance{end}", (5, 1, 1), f"squares{end}"),
        layer(Reshape, f"variances{end}", ROW, f"variance{end}"),
        layer(Activation, f"scale{end}", ROW, f"variances{end}", function="power", constants=(-0.5, 1e-5)),
        layer(Mul, f"y{end}", SHAPE, f"sub{end}", f"scale{end}"),
    )


def transformer(*more: Layer) -> Graph:
    """Patches, their positions, and a block: the stream is `place` and `sum`."""
    layers = (
        layer(Input, "x", SHAPE),
        layer(Dense, "patches", SHAPE, "x"),
        layer(Reshape, "apart", (40, 1, 1), "patches"),
        layer(Conv, "places", (40, 1, 1), "apart", kernel_shape=(1, 1), groups=40),
        layer(Reshape, "place", SHAPE, "places"),
        *normalized("place", "1"),
        layer(Dense, "branch", SHAPE, "y1"),
        layer(Add, "sum", SHAPE, "place", "branch"),
        *normalized("sum", "2"),
        layer(Dense, "head", (5, 3), "y2"),
        *more,
    )
    return Graph("transformer", layers, ("head", *(one.name for one in more)))


BEGINNING = {"place", "places", "apart", "patches"}


def test_sums_and_what_the_first_of_them_is_made_of() -> None:
    """Not the branch, which is read but once and begins anew, nor what the normalizations make."""
    assert set(residual_streams(transformer())) == {"sum", *BEGINNING}


@pytest.mark.parametrize(
    "reader",
    [
        layer(Dense, "r", (5, 3), "sum"),
        layer(MatMul, "r", (5, 5), "sum", "x"),
        layer(Activation, "r", SHAPE, "sum", function="gelu"),
        layer(Conv, "r", (2, 8, 1), "map2", kernel_shape=(1, 1)),
    ],
    ids=lambda one: one.kind,
)
def test_what_a_dear_layer_reads_too_stays_as_it_is(reader: Layer) -> None:
    assert set(residual_streams(transformer(reader))) == BEGINNING


def test_a_mean_over_channels_is_a_convolution() -> None:
    shape = (8, 4, 4)
    layers = (
        layer(Input, "x", (3, 4, 4)),
        layer(Conv, "c", shape, "x", kernel_shape=(3, 3), pads=(1, 1, 1, 1)),
        layer(Conv, "mean", (1, 4, 4), "c", kernel_shape=(1, 1)),
        layer(Sub, "d", shape, "c", "mean"),
        layer(Mul, "square", shape, "d", "d"),
        layer(Conv, "variance", (1, 4, 4), "square", kernel_shape=(1, 1)),
        layer(Activation, "scale", (1, 4, 4), "variance", function="power", constants=(-0.5, 1e-5)),
        layer(Mul, "y", shape, "d", "scale"),
    )
    assert residual_streams(Graph("normalized", layers, ("y",))) == ["c"]


def test_other_differences_are_none() -> None:
    """A difference that is not squared, or whose squares divide nothing."""
    layers = (
        layer(Input, "x", SHAPE),
        layer(Dense, "a", SHAPE, "x"),
        layer(Dense, "b", SHAPE, "x"),
        layer(Sub, "d", SHAPE, "a", "b"),
        layer(Mul, "y", SHAPE, "d", "d"),
    )
    assert residual_streams(Graph("distance", layers, ("y",))) == []
