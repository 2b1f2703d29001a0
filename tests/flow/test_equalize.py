"""Which method of equalization is kept: the best one, if it helps whichever half of the images gave the ranges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.optimize.networks import Builder, images

from mz import optimize
from mz.flow import contest, equalize
from mz.flow.equalize import ABSORBING, WITH_TABLES
from mz.flow.options import no_progress
from mz.graph import Activation, Graph, Precision
from mz.optimize.bias_absorption import AbsorptionReport
from mz.quantize import Recipe
from mz.script import Equalization


class Scripted:
    """A trial that measures what it was told to: 0 for the network as it came, of the methods each its gain by fold."""

    gains: Mapping[str, tuple[float, ...]] = {}
    made: list[tuple[object, str]] = []  # noqa: RUF012
    tried: list[list[str]] = []  # noqa: RUF012
    ranges: list[tuple[str, str]] = []  # noqa: RUF012

    def __init__(self, *network: object) -> None:
        self.fold = len(Scripted.tried)
        Scripted.tried.append([])

    def method(self, params: object) -> str:
        return next((name for other, name in self.made if params is other), "none")

    def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
        name = self.method(params)
        Scripted.ranges.append((name, recipe.activation_range.method))
        if most is None:
            Scripted.tried[self.fold].append(name)
        return np.array([20.0, 40.0]) + self.gains.get(name, (0.0, 0.0))[self.fold]

    def float_db(self, *network: object) -> float:
        return 120.0


def run(
    monkeypatch, asked: Equalization, gains, trial=Scripted, recipe=None, alike=0.0, function=None, **options
):
    recipe = recipe or Recipe()
    builder = Builder(0)
    first = builder.conv(builder.last, 6, 3)
    if function:
        second = builder.conv(first, 6)
        first = builder.add(Activation, [second], second.shape, function=function)
    builder.conv(first, 4)
    graph, params = builder.finish()

    def named(graph, params, *rest, method, scalable, **settings):
        found = optimize.equalize(graph, params, *rest, method=method, scalable=scalable, **settings)
        moved = any(params is other for other, name in Scripted.made if name == ABSORBING)
        Scripted.made.append((found[1], method + bool(scalable) * WITH_TABLES + moved * ABSORBING))
        return found

    def absorbed(graph, params, peaks):
        found = dict(params)
        Scripted.made.append((found, ABSORBING))
        return graph, found, peaks, AbsorptionReport({"conv1": 1})

    monkeypatch.setattr(contest, "Trial", trial)
    monkeypatch.setattr(contest, "quantized", lambda network, recipe: (*network[:2], recipe))
    monkeypatch.setattr(contest, "judged", lambda trial, network, *_: float(trial.image_dbs(*network).mean()))
    for name, value in {"gains": gains, "made": [], "tried": [], "ranges": []}.items():
        monkeypatch.setattr(Scripted, name, value)
    monkeypatch.setattr(contest, "ALIKE_OCTAVES", alike)
    monkeypatch.setattr(equalize, "equalize", named)
    monkeypatch.setattr(equalize, "absorb_bias", absorbed)
    monkeypatch.setattr(equalize, "pools_to_convolutions", lambda graph, params, peaks: (graph, params, []))
    found = equalize.run_equalization(graph, params, images(graph, 8), recipe, asked, no_progress, **options)
    assert (found.apart is None) == (found.graph is graph)
    return graph, found.graph, found.params, found.step, found.report


def of(one_step, two_step, dfq):
    return {"one_step": one_step, "two_step": two_step, "dfq": dfq}


@pytest.mark.parametrize(
    ("policy", "gains", "kept"),
    [
        ("allowed", of((0.5, 0.5), (1.0, 0.9), (0.2, 0.1)), "two_step"),
        ("allowed", of((0.1, 0.1), (3.0, -3.2), (0.2, 0.1)), "none"),  # one half only
        # A little lost on one half, much won on the other; what is far behind on the one has no other.
        ("allowed", of((0.1, 0.1), (-0.4, 3.0), (-1.2, 9.0)), "two_step"),
        ("allowed", of((0.1, 0.1), (0.2, 0.2), (0.2, 0.1)), "none"),  # not worth it
        ("allowed", of((1.2, 1.2), (1.0, 1.0), (0.9, 0.9)), "dfq"),  # alike: what spares the kernels
        (
            "allowed",
            of((5.0, -3.0), (0.5, 5.0), (0.5, 5.0)),
            "one_step",
        ),  # the network as it came is far behind
        ("enabled", of((-1.0, -1.0), (-2.0, -2.0), (-3.0, -3.0)), "one_step"),
        ("enabled", of((-9.0, -9.0), (-9.8, -9.0), (-9.9, -9.0)), "dfq"),
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
    gains = of((1.2, 1.2), (1.0, 1.0), (0.9, 0.9))
    assert run(monkeypatch, asked, gains, recipe=recipe)[-1]["method"] == kept


@pytest.mark.parametrize(
    ("gains", "kept", "measured"),
    [
        ((30.0, 5.0, 8.5), "two_step" + WITH_TABLES, 6),
        ((30.0, 5.0, 7.9), "two_step", 6),  # half a bit is what they cost
        ((30.0, -0.5, 2.9), "none", 6),
        ((30.0, -0.5, 3.1), "two_step" + WITH_TABLES, 6),
        ((66.5, -0.5, 8.5), "none", 3),  # good enough without: not tried
        ((65.5, 1.0, 8.5), "two_step", 3),
    ],
)
def test_wide_tables_by_channel_are_for_those_who_need_them(monkeypatch, gains, kept, measured) -> None:
    came, plain, tabled = gains

    class Wide(Scripted):
        def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
            return super().image_dbs(graph, params, recipe, most) + came - 30.0

    asked = Equalization("allowed", "auto", None, None, "disabled")
    recipe = Recipe(Precision.parse("a16_w16"))
    low = of((-1.0, -1.0), (plain, plain), (-1.0, -1.0))
    high = {name + WITH_TABLES: (tabled - 0.2, tabled - 0.2) for name in low} | {
        "two_step" + WITH_TABLES: (tabled, tabled)
    }
    options = {"recipe": recipe, "function": "hard_swish"}
    report = run(monkeypatch, asked, low | high, Wide, wide_tables=True, **options)[-1]
    assert report["method"] == kept
    assert sum(name != "none" for name in report["output_db"]) == measured
    # The target has no room for them; and what has 8 bits elsewhere has other noise.
    report = run(monkeypatch, asked, low | high, Wide, **options)[-1]
    assert report["method"] == ("two_step" if plain > 0 else "none")
    for recipe in (
        Recipe(Precision(8, 8), layer_precisions={"conv2": Precision(16, 8)}),
        Recipe(Precision(16, 8)),
    ):
        options["recipe"] = recipe
        found = run(monkeypatch, asked, low | high, Wide, wide_tables=True, **options)[-1]["output_db"]
        assert set(found) == {"none", *low}


def test_what_is_far_behind_is_not_judged(monkeypatch) -> None:
    asked = Equalization("allowed", "auto", None, None, "disabled")
    report = run(monkeypatch, asked, of((-5.0,), (-6.0,), (-7.0,)))[-1]
    assert report["output_db"] == {"none": 30.0, "one_step": 25.0, "two_step": 24.0, "dfq": 23.0}
    assert report["method"] == "none" and Scripted.tried == [["none"], ["none"]]
    assert report["left_early"] == {"one_step": 5.0, "two_step": 6.0, "dfq": 7.0}
    *_, step, report = run(monkeypatch, asked, of((1.0,), (6.0, 6.0), (4.9,)))
    early = "left early, against the best there: none -6.0 dB, one_step -5.0 dB, dfq -1.1 dB"
    assert f"; two_step 36.0 dB; {early}" in step.note
    assert report["output_db"] == {"none": 30.0, "one_step": 31.0, "two_step": 36.0, "dfq": 34.9}
    assert report["method"] == "two_step" and Scripted.tried == [["two_step", "dfq"], ["two_step"]]


def test_of_methods_that_come_to_nearly_the_same_one_is_tried(monkeypatch) -> None:
    asked = Equalization("allowed", "auto", None, None, "disabled")
    report = run(monkeypatch, asked, of((1.0, 1.0), (9.0, 9.0), (9.0, 9.0)), alike=99.0)[-1]
    assert report["method"] == "one_step" and Scripted.tried == [["none", "one_step"]] * 2
    assert report["output_db"] == {"none": 30.0, "one_step": 31.0, "two_step": 31.0, "dfq": 31.0}


@pytest.mark.parametrize(
    ("absorption", "gain", "kept", "measured"),
    [
        ("allowed", 0.2, "dfq", 31.2),  # looks hardly better than what it adds to: not judged
        ("allowed", 0.4, "dfq" + ABSORBING, 34.4),
        ("allowed", -0.4, "dfq", 30.6),
        ("enabled", -0.4, "dfq" + ABSORBING, 33.6),
        ("disabled", 0.4, "dfq", None),
    ],
)
def test_a_bias_is_absorbed_where_that_helps_or_is_asked_for(
    monkeypatch, absorption, gain, kept, measured
) -> None:
    class Rough(Scripted):
        def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
            moved = ABSORBING in self.method(params)
            return super().image_dbs(graph, params, recipe, most) + moved * (gain + 3 * (most is None))

    asked = Equalization("allowed", "dfq", None, None, absorption)
    report = run(monkeypatch, asked, {"dfq": (1.0, 1.0), "dfq" + ABSORBING: (1.0, 1.0)}, Rough)[-1]
    assert report["method"] == kept
    assert report["output_db"].get("dfq" + ABSORBING) == measured


@pytest.mark.parametrize("came", ["l3", "mse", "l1_5"])
@pytest.mark.parametrize("made", ["l3", "mse", "l1_5"])
def test_each_network_is_judged_with_the_ranges_that_suit_it(monkeypatch, came, made) -> None:
    class Suited(Scripted):
        def image_dbs(self, graph, params, recipe, most=None) -> np.ndarray:
            suits = came if self.method(params) == "none" else made
            found = super().image_dbs(graph, params, recipe, most)
            return found + 5 * (recipe.activation_range.method == suits)

    asked = Equalization("allowed", "one_step", None, None, "disabled")
    report = run(monkeypatch, asked, {"one_step": (1.0, 1.0)}, Suited)[-1]
    rough = [(name, ranges) for name in ("none", "one_step") for ranges in ("l3", "mse", "l1_5")]
    assert Scripted.ranges == [*rough, *[("none", came), ("one_step", made)] * 2]
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


@pytest.mark.parametrize(
    ("passes", "count", "judged"), [(5, 32, 8), (64, 64, 16), (127.5, 127, 31), (1000, 128, 32)]
)
def test_what_a_pass_costs_bounds_the_images(monkeypatch, passes, count, judged) -> None:
    graph, params = Builder(0).finish()
    macs = graph.coverage().macs
    monkeypatch.setattr(contest, "IMAGES_MACS", 1)
    monkeypatch.setattr(contest, "MOST_MACS", int(passes * macs))
    assert contest.image_count(graph) == count
    fold = contest.Fold(graph, params, count, images(graph, 64), images(graph, 64, seed=1))
    assert sum(len(part[graph.inputs[0].name]) for part in fold.trial.parts) == judged
