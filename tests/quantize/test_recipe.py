"""Recipes for trials: the same but for the weights."""

from __future__ import annotations

from mz.graph import Precision
from mz.quantize import ActivationRange, Recipe


def test_mended_weights_have_two_bits_more_and_nearest_integers() -> None:
    recipe = Recipe(
        precision=Precision(8, 8),
        layer_precisions={"conv1": Precision(16, 4), "conv2": Precision(8, 16)},
        activation_range=ActivationRange("mse"),
        layer_weight_search={"conv1": True},
    )
    mended = recipe.with_mended_weights()
    assert mended.precision == Precision(8, 10)
    assert mended.layer_precisions == {"conv1": Precision(16, 6), "conv2": Precision(8, 16)}
    assert mended.activation_range == recipe.activation_range
    assert not mended.weight_search and not mended.layer_weight_search
