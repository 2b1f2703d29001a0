"""Which range method a network gets, where integers are refined later and where they are not."""

from __future__ import annotations

from functools import partial

import pytest
from tests.optimize.networks import Builder, images

from mz.flow import range_method
from mz.flow.calibration import some
from mz.flow.options import no_progress
from mz.flow.range_method import with_range_method
from mz.flow.trials import AS_ROUNDED, Apart
from mz.graph import Precision
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


def test_a_network_that_images_had_a_say_in_is_tried_as_half_of_them_make_it(monkeypatch) -> None:
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 6, 3), 4)
    graph, params = builder.finish()
    apart = Apart(
        graph, {name: {array: 2 * x for array, x in own.items()} for name, own in params.items()}, 6
    )
    tried, counts = [], []

    def sample(count: int):
        counts.append(count)
        return some(images(graph, 8), count)

    def output_noise(trial, graph, params, statistics, recipe, methods):
        tried.append(params)
        return ROUNDED

    def judged(trial, network, recipe, images, refinements):
        tried.append(network[1])
        return 30.0

    monkeypatch.setattr(range_method, "output_noise_by_method", output_noise)
    monkeypatch.setattr(range_method, "judged", judged)
    with_range_method(graph, params, Recipe(), sample, Refinements(), no_progress, apart)
    assert counts == [6] and len(tried) > 1 and all(one is apart.params for one in tried)
