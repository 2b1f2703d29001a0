"""Which method of equalization is kept: the best one, if it helps whichever half of the images gave the ranges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.optimize.networks import Builder, images

from mz.flow import equalize
from mz.flow.options import no_progress
from mz.graph import Graph
from mz.quantize import Recipe
from mz.script import Equalization


class Scripted:
    """A trial that measures what it was told to, by fold and by call: none first, then the methods in order."""

    gains: tuple[tuple[float, ...], ...] = ()
    folds = 0

    def __init__(self, *network: object) -> None:
        self.fold, self.calls = Scripted.folds, 0
        Scripted.folds += 1

    def image_dbs(self, *network: object) -> np.ndarray:
        self.calls += 1
        gain = 0.0 if self.calls == 1 else self.gains[self.fold][self.calls - 2]
        return np.array([20.0, 40.0]) + gain

    def float_db(self, *network: object) -> float:
        return 120.0


@pytest.mark.parametrize(
    ("policy", "gains", "kept"),
    [
        ("allowed", ((0.5, 1.0, 0.2), (0.5, 0.9, 0.1)), "two_step"),
        ("allowed", ((0.1, 3.0, 0.2), (0.1, 0.2, 0.1)), "none"),  # one half only
        ("allowed", ((0.1, 0.2, 0.2), (0.1, 0.2, 0.1)), "none"),  # not worth it
        ("enabled", ((-1.0, -2.0, -3.0), (-1.0, -2.0, -3.0)), "one_step"),
    ],
)
def test_what_helps_both_ways_is_kept(monkeypatch, policy, gains, kept) -> None:
    monkeypatch.setattr(equalize, "Trial", Scripted)
    monkeypatch.setattr(Scripted, "gains", gains)
    monkeypatch.setattr(Scripted, "folds", 0)
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 6, 3), 4)
    graph, params = builder.finish()
    asked = Equalization(policy, "auto", None, None, "disabled")
    other, _, step, report = equalize.run_equalization(
        graph, params, images(graph, 8), Recipe(), asked, no_progress
    )
    assert report["method"] == kept
    assert step.applied == (kept != "none") and step.optional == (policy == "allowed")
    assert (other is graph) == (kept == "none")
    assert report["output_db"]["none"] == 30.0


def test_a_network_without_a_channel_to_scale_is_left_without_complaint() -> None:
    builder = Builder(0)
    graph = Graph("one", (*builder.layers, builder.conv(builder.last, 4)), ("conv1",))
    for policy in ("allowed", "enabled"):
        other, _, step, report = equalize.run_equalization(
            graph, builder.params, images(graph, 8), Recipe(), Equalization(policy), no_progress
        )
        assert other is graph and not step.applied and not report
        assert step.missed == (policy == "enabled")
