"""Which method of equalization is kept: the best one, if it helps whichever half of the images gave the ranges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.optimize.networks import Builder, images

from mz.flow import contest, equalize
from mz.flow.options import no_progress
from mz.graph import Graph, Precision
from mz.quantize import Recipe, Refinements
from mz.script import Equalization


class Scripted:
    """A trial that measures what it was told to: 0 for the network as it came, of the methods each its gain by fold."""

    gains: tuple[tuple[float, ...], ...] = ()
    came: object = None
    tried: list[list[object]] = []  # noqa: RUF012 - set anew by every test
    ranges: list[str] = []  # noqa: RUF012

    def __init__(self, *network: object) -> None:
        self.fold = len(Scripted.tried)
        Scripted.tried.append([])

    def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
        Scripted.ranges.append(recipe.activation_range.method)
        gain = 0.0
        if params is not self.came:
            of = Scripted.tried[self.fold]
            if not any(params is other for other in of):
                of.append(params)
            gain = self.gains[self.fold][len(of) - 1]
        return np.array([20.0, 40.0]) + gain

    def float_db(self, *network: object) -> float:
        return 120.0


def run(monkeypatch, asked: Equalization, gains, trial=Scripted, recipe=None, alike=0.0, **options):
    recipe = recipe or Recipe()
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 6, 3), 4)
    graph, params = builder.finish()
    monkeypatch.setattr(contest, "Trial", trial)
    monkeypatch.setattr(contest, "quantized", lambda network, recipe: (*network[:2], recipe))
    monkeypatch.setattr(contest, "judged", lambda trial, network, *_: float(trial.image_dbs(*network).mean()))
    for name, value in {"gains": gains, "came": params, "tried": [], "ranges": []}.items():
        monkeypatch.setattr(Scripted, name, value)
    monkeypatch.setattr(contest, "ALIKE_OCTAVES", alike)
    monkeypatch.setattr(equalize, "pools_to_convolutions", lambda graph, params, peaks: (graph, params, []))
    found = equalize.run_equalization(graph, params, images(graph, 8), recipe, asked, no_progress, **options)
    assert (found.apart is None) == (found.graph is graph)
    return graph, found.graph, found.params, found.step, found.report


@pytest.mark.parametrize(
    ("policy", "gains", "kept"),
    [
        ("allowed", ((0.5, 1.0, 0.2), (0.5, 0.9, 0.1)), "two_step"),
        ("allowed", ((0.1, 3.0, 0.2), (0.1, -1.2, 0.1)), "none"),  # one half only
        (
            "allowed",
            ((0.1, -0.4, -1.2), (0.1, 3.0, 9.0)),
            "two_step",
        ),  # a little on one half, much on the other
        ("allowed", ((0.1, 0.2, 0.2), (0.1, 0.2, 0.1)), "none"),  # not worth it
        ("allowed", ((1.2, 1.0, 0.9), (1.2, 1.0, 0.9)), "dfq"),  # alike: what spares the kernels
        ("enabled", ((-1.0, -2.0, -3.0), (-1.0, -2.0, -3.0)), "one_step"),
    ],
)
def test_what_helps_both_ways_is_kept(monkeypatch, policy, gains, kept) -> None:
    asked = Equalization(policy, "auto", None, None, "disabled")
    graph, other, _, step, report = run(monkeypatch, asked, gains)
    assert report["method"] == kept
    assert step.applied == (kept != "none") and step.optional == (policy == "allowed")
    assert (other is graph) == (kept == "none")
    assert report["output_db"]["none"] == 30.0


@pytest.mark.parametrize(("precision", "kept"), [("a16_w8", "dfq"), ("a16_w16", "one_step")])
def test_above_8_bits_the_best_is_the_best(monkeypatch, precision, kept) -> None:
    asked = Equalization("allowed", "auto", None, None, "disabled")
    recipe = Recipe(Precision.parse(precision))
    assert run(monkeypatch, asked, ((1.2, 1.0, 0.9),) * 2, recipe=recipe)[-1]["method"] == kept


def test_what_is_hopeless_is_not_refined(monkeypatch) -> None:
    asked = Equalization("allowed", "auto", None, None, "disabled")
    refinements = Refinements(rounding=False, bias_correction=True)
    report = run(monkeypatch, asked, ((-4.0, -5.0, -6.0),), refinements=refinements)[-1]
    assert report["method"] == "none" and report["output_db"]["one_step"] == 26.0
    assert [len(of) for of in Scripted.tried] == [3, 0]
    report = run(monkeypatch, asked, ((-2.0, 2.0, 1.0), (2.0, 1.0, 1.0)), refinements=refinements)[-1]
    assert report["method"] == "two_step" and [len(of) for of in Scripted.tried] == [3, 2]


def test_of_methods_that_come_to_nearly_the_same_one_is_tried(monkeypatch) -> None:
    asked = Equalization("allowed", "auto", None, None, "disabled")
    report = run(monkeypatch, asked, ((1.0, 9.0, 9.0),) * 2, alike=99.0)[-1]
    assert report["method"] == "one_step" and [len(of) for of in Scripted.tried] == [1, 1]
    assert report["output_db"] == {"none": 30.0, "one_step": 31.0, "two_step": 31.0, "dfq": 31.0}


@pytest.mark.parametrize("came", ["l3", "mse", "l1_5"])
@pytest.mark.parametrize("made", ["l3", "mse", "l1_5"])
def test_each_network_is_judged_with_the_ranges_that_suit_it(monkeypatch, came, made) -> None:
    class Suited(Scripted):
        def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
            suits = came if params is self.came else made
            return super().image_dbs(graph, params, recipe, most) + 5 * (
                recipe.activation_range.method == suits
            )

    asked = Equalization("allowed", "one_step", None, None, "disabled")
    report = run(monkeypatch, asked, ((1.0,), (1.0,)), Suited)[-1]
    tried = ["l3", "mse", "l1_5"]
    # As it came on one half; what one_step makes of it on that half, its judgement, those of both; the other half.
    assert Scripted.ranges == [*tried, *tried, made, came, came, made]
    assert report["output_db"] == {"none": 35.0, "one_step": 36.0}


def test_a_network_without_a_channel_to_scale_is_left_without_complaint() -> None:
    builder = Builder(0)
    graph = Graph("one", (*builder.layers, builder.conv(builder.last, 4)), ("conv1",))
    for policy in ("allowed", "enabled"):
        found = equalize.run_equalization(
            graph, builder.params, images(graph, 8), Recipe(), Equalization(policy), no_progress
        )
        assert found.graph is graph and not found.step.applied and not found.report and found.apart is None
        assert found.step.missed == (policy == "enabled")


def test_apart_is_the_network_as_half_of_the_images_make_it() -> None:
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 6, 3), 4)
    graph, params = builder.finish()
    asked = Equalization("enabled", "one_step", None, None, "disabled")
    shown = images(graph, 8)
    (name,) = shown

    def by(images: np.ndarray) -> equalize.Equalized:
        return equalize.run_equalization(graph, params, {name: images}, Recipe(), asked, no_progress)

    apart = by(shown[name]).apart
    assert apart is not None and apart.images == contest.MOST_IMAGES
    alone = by(np.repeat(shown[name][::2], 2, axis=0))
    for layer, arrays in apart.params.items():
        for array, value in arrays.items():
            np.testing.assert_array_equal(value, alone.params[layer][array])
