"""Equalization as the flow runs it: every method is tried, and the one whose integers measure best is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mz.flow.contest import Changed, Contest
from mz.flow.options import Progress, Step
from mz.flow.trials import AS_ROUNDED, Apart
from mz.graph import Activation, Graph, Params
from mz.optimize import (
    MAX_SCALE,
    METHODS,
    EqualizationReport,
    Peaks,
    absorb_bias,
    equalize,
    pools_to_convolutions,
)
from mz.quantize import Recipe, Refinements
from mz.quantize.groups import scale_groups
from mz.script import Equalization

ABSORBING = " with bias absorption"
WITH_TABLES = " with tables by channel"

ENOUGH_DB = 66.0
"""A network of 16 bits that is as good as this without them takes no tables by channel of 16 bits."""
TABLES_DB = 3.0
"""What they must bring over all else, half a bit: 11 to 19 KB each where they are folded, a dozen of them a layer."""


@dataclass(frozen=True, slots=True)
class Equalized:
    """The equalized network (or the same one), the line of the table, and what was measured, in plain data.

    apart: the same equalized by half of the images, where it is equalized.
    """

    graph: Graph
    params: Params
    step: Step
    report: dict[str, Any]
    apart: Apart | None = None


def scalable_functions(graph: Graph, recipe: Recipe, most_bits: int) -> list[str]:
    """Activation functions of tensors of at most so many bits, whose tables are to differ by channel."""
    bits = {name: recipe.activation_bits(group) for group in scale_groups(graph) for name in group}
    return [
        layer.name
        for layer in graph.layers
        if isinstance(layer, Activation) and not layer.host and bits[layer.inputs[0]] <= most_bits
    ]


def run_equalization(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    recipe: Recipe,
    asked: Equalization,
    progress: Progress,
    refinements: Refinements = AS_ROUNDED,
    wide_tables: bool = False,
) -> Equalized:
    """Tries the methods that are asked for, and keeps the best.

    Policy `allowed` keeps a method only where it measures better than none, `enabled` takes the best one in any case;
    likewise for bias absorption before it. refinements: what the integers go through before they are judged.
    wide_tables: activation functions over 16 bits may have tables by channel too, where nothing else is good enough.
    """
    optional = asked.policy == "allowed"
    contest = Contest(graph, params, images, recipe, refinements, optional)
    scaled, scaled_params, pools = pools_to_convolutions(graph, params, contest.peaks)
    keep = [name for name, how in recipe.layer_ranges.items() if how.method == "manual"]
    options: dict[str, Any] = {
        "layer_scale": recipe.per_layer_weight_scale,
        "layers": asked.layers,
        "keep": keep,
        "max_scale": asked.max_scale or MAX_SCALE,
    }
    narrow, wide = (scalable_functions(scaled, recipe, bits) for bits in (8, 16))

    def scaled_by(
        name: str, graph: Graph, params: Params, peaks: Peaks
    ) -> tuple[Graph, Params, EqualizationReport]:
        method, scalable = name.removesuffix(WITH_TABLES), wide if name.endswith(WITH_TABLES) else narrow
        return equalize(graph, params, peaks, method=method, scalable=scalable, **options)

    def equalized(name: str, peaks: Peaks) -> Changed:
        return Changed(*scaled_by(name, scaled, scaled_params, peaks))

    def absorbed(name: str, peaks: Peaks) -> Changed:
        moved, moved_params, moved_peaks, absorption = absorb_bias(scaled, scaled_params, peaks)
        return Changed(
            *scaled_by(name, moved, moved_params, moved_peaks), {"absorbed": absorption.to_dict()["layers"]}
        )

    methods = list(METHODS) if asked.method == "auto" else [asked.method]
    may_be_tabled = wide_tables and recipe.precision.above_8_bits and wide != narrow
    tabled = [method + WITH_TABLES for method in methods] if may_be_tabled else []
    absorbable = asked.bias_absorption != "disabled" and not keep
    absorbable = absorbable and bool(absorb_bias(scaled, scaled_params, contest.peaks)[3].layers)
    forced = absorbable and asked.bias_absorption == "enabled"

    def enter_all(names: list[str]) -> None:
        made, also = (absorbed, ABSORBING) if forced else (equalized, "")
        for name in names:
            contest.enter(name + also, partial(made, name))
            advance(1)
        contest.judge()

    most = len(methods) + len(tabled) + (absorbable and not forced)
    with progress("equalization", most, "trials") as advance:
        enter_all(methods)
        if tabled and contest.found[_best(contest)] < ENOUGH_DB:
            enter_all(tabled)
        # Where no method brings anything, neither does a bias that is moved out of its way.
        base = _best(contest)
        if absorbable and not forced and base != "none":
            contest.enter(base + ABSORBING, partial(absorbed, base), base)
            contest.judge()
            advance(1)
    return _result(contest, graph, params, pools)


def _result(contest: Contest, graph: Graph, params: Params, pools: list[str]) -> Equalized:
    """What is kept, and what is told of it. graph, params: as they came. pools: those that became convolutions."""
    step = partial(Step, "equalization", True, optional=contest.optional)
    if not contest.reports:
        return Equalized(graph, params, step(False, "no channel can be scaled"), {})
    best = _best(contest)
    found, early = contest.found, contest.left_early
    measured = _listed({name: db for name, db in found.items() if name not in early})
    if early:
        measured += (
            f"; left early, against the best there: {_listed({name: -db for name, db in early.items()})}"
        )
    described: dict[str, Any] = {
        "method": best,
        "output_db": {name: round(db, 2) for name, db in found.items()},
        "left_early": {name: round(db, 2) for name, db in early.items()},
    }
    if best == "none":
        return Equalized(graph, params, step(False, f"brings nothing here ({measured})"), described)
    kept, apart = contest.changed(best)
    float_db = round(contest.folds[0].trial.float_db(kept.graph, kept.params), 1)
    described = kept.report.to_dict() | kept.told | described | {"float_db": float_db}
    note = (
        f"{best}: {kept.report.scaled} channels of {kept.report.bundles} sets of layers, "
        f"float output unchanged ({float_db:.0f} dB); {measured}"
    )
    if pools:
        described["pools"] = pools
        note += f"; {', '.join(pools)} as convolutions"
    return Equalized(kept.graph, kept.params, step(True, note), described, apart)


def _best(contest: Contest) -> str:
    """The method to keep, `none` where none helps. One with tables by channel has to bring what they cost."""
    better, found = contest.better, contest.found
    plain = [name for name in better if WITH_TABLES not in name]
    best = contest.best(plain) if plain else "none"
    if len(plain) < len(better):
        tabled = contest.best([name for name in better if name not in plain])
        return tabled if found[tabled] >= found[best] + TABLES_DB else best
    return best


def _listed(decibels: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {db:.1f} dB" for name, db in decibels.items())
