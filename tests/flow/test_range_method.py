"""Which range method a network gets, where integers are refined later and where they are not."""

from __future__ import annotations

from functools import partial

import pytest
from tests.optimize.networks import Builder, images

from mz.flow import range_method
from mz.flow.calibration import some
from mz.flow.options import no_progress
from mz.flow.range_method import with_range_method
from mz.flow.trials import AS_ROUNDED
from mz.graph import Conv, Graph, Input, Precision
from mz.quantize import ActivationRange, Recipe, Refinements


def run(monkeypatch, rounded, refined, refinements, recipe: Recipe = Recipe()):  # noqa: B008
    """The method taken and what was measured, where trials find what they are told to; methods in their order."""
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 6, 3), 4)
    graph, params = builder.finish()
    seen: dict[str, list[str]] = {"rounded": [], "refined": []}

    def output_noise(trial, graph, params, statistics, recipe, methods=tuple(rounded)):
        seen["rounded"] += methods
        return {name: rounded[name] for name in methods}

    def judged(trial, network, recipe, images, refinements):
        seen["refined"].append(recipe.activation_range.method)
        return refined[recipe.activation_range.method]

    monkeypatch.setattr(range_method, "output_noise_by_method", output_noise)
    monkeypatch.setattr(range_method, "judged", judged)
    sample = partial(some, images(graph, 8))
    found, trials = with_range_method(graph, params, recipe, sample, refinements, no_progress)
    return found, trials, seen


ROUNDED = {"l3": 20.0, "min_max": 20.9, "mse": 19.5, "l1_5": 18.0}


@pytest.mark.parametrize(
    ("refined", "taken"),
    [
        ({"l3": 25.0, "mse": 26.0}, "mse"),
        ({"l3": 25.0, "mse": 24.0}, "l3"),
        ({"l3": 25.0, "mse": 25.2}, "l3"),
    ],
)
def test_what_measures_alike_is_refined_and_judged_again(monkeypatch, refined, taken) -> None:
    recipe, trials, seen = run(monkeypatch, ROUNDED, refined, Refinements())
    assert recipe.activation_range == ActivationRange(taken)
    assert seen == {"rounded": ["l3", "mse", "l1_5"], "refined": ["l3", "mse"]}
    assert trials.refined == refined


def test_a_clear_winner_is_not_refined(monkeypatch) -> None:
    recipe, trials, seen = run(monkeypatch, ROUNDED | {"l1_5": 22.0}, {}, Refinements())
    assert recipe.activation_range.method == "l1_5" and seen["refined"] == [] and trials.refined == {}


def test_without_refinements_the_first_that_measures_alike_is_taken(monkeypatch) -> None:
    recipe, trials, seen = run(monkeypatch, ROUNDED | {"l3": 19.0}, {}, AS_ROUNDED)
    assert recipe.activation_range.method == "min_max" and seen["refined"] == []
    assert list(trials.rounded) == ["l3", "min_max", "mse", "l1_5"]


@pytest.mark.parametrize(
    "recipe",
    [Recipe(activation_range=ActivationRange("min_max")), Recipe(precision=Precision(16, 8))],
    ids=["stated", "16 bits"],
)
def test_what_is_not_open_is_not_tried(monkeypatch, recipe) -> None:
    found, trials, seen = run(monkeypatch, ROUNDED, {}, Refinements(), recipe)
    assert found is recipe and trials.rounded == {} and seen == {"rounded": [], "refined": []}


@pytest.mark.parametrize(
    ("size", "channels", "counts"),
    [(8, 4, (64, 256)), (224, 4, (64, 111)), (64, 20_000, (17, 34)), (64, 40_000, (16, 16))],
    ids=["cheap", "large images", "dearer", "dear"],
)
def test_cheap_networks_are_tried_on_more_images(size, channels, counts) -> None:
    image = Input(name="input_layer1", inputs=(), shape=(3, size, size))
    conv = Conv(
        name="conv1", inputs=(image.name,), shape=(channels, size, size), kernel_shape=(1, 1), strides=(1, 1),
        pads=(0, 0, 0, 0), dilations=(1, 1), groups=1,
    )  # fmt: skip
    assert range_method._affordable(Graph("network", (image, conv), ("conv1",))) == counts
