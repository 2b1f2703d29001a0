"""The search: from cheap recipes to dear ones, until one loses no more accuracy than the user accepts.

Cheap is first what costs the device nothing: better algorithms, then other ranges. Then come more bits, where the
analysis of the network says that they count, then everywhere.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mz import archive as har
from mz import data, script, tasks, zoo
from mz.archive import Archive
from mz.compiler import bit_operations, summarize
from mz.errors import UserError
from mz.flow.analyze import measure, patch, sampled
from mz.flow.evaluate import evaluate_archive
from mz.flow.held_out import split
from mz.flow.networks import configuration, load, working_arch
from mz.flow.optimize import optimize_archive
from mz.flow.options import (
    EvalOptions,
    EvalResult,
    ModelRef,
    Note,
    OptimizeOptions,
    Progress,
    SearchGoal,
    SearchResult,
    Tried,
    no_note,
    no_progress,
)
from mz.flow.recipe import script_settings
from mz.flow.search_state import State, file_digest, open_state, search_key, state_path
from mz.graph import Precision
from mz.quantize import enough_images, image_limit, worst_first
from mz.script import OPTIMIZATION_LEVELS, ScriptSettings

MIXED = {f"mixed, {db} dB": db for db in (3, 6, 12)}
"""Recipes of mixed precision, and by how much less noise they aim at."""
_TRAINING = 20
"""A level that trains is expected to take so many times as long as level 1, for the budget."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One recipe of the ladder. Either a level, perhaps with another precision, or a script that an analysis wrote."""

    name: str
    level: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Ground:
    """What all recipes of a search have in common."""

    archive: Archive
    config: zoo.NetworkConfig
    settings: ScriptSettings
    options: OptimizeOptions
    calibration: data.Dataset
    evaluation: data.Dataset
    progress: Progress
    note: Note


def search(
    ref: ModelRef,
    options: OptimizeOptions,
    goal: SearchGoal,
    har_path: Path | None = None,
    *,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> SearchResult:
    """Tries recipes until one holds: the upper end of the 95 % interval of what it loses is at most `goal` allows.

    The best archive so far always lies at `har_path` (MODEL.har), what was tried beside it (`search_state`). Raises
    UserError for a metric that the images cannot give, images that leave nothing to judge by, or a first recipe that
    cannot be made.
    """
    archive = load(ref, hw_arch=options.hw_arch, note=note, progress=progress)
    config = configuration(archive, ref)
    settings = script_settings(options.script or zoo.script_path(config), archive.graph)
    count = options.calib_count if options.calib_count is not None else settings.calib_count
    calibration, evaluation = split(config, options.calib_path, count, goal.data_path, goal.data_count)
    note(f"{len(calibration)} images calibrate, {len(evaluation)} others judge")
    ground = Ground(archive, config, settings, options, calibration, evaluation, progress, note)
    har_path = har_path or Path(f"{archive.name}.har")
    state = open_state(state_path(har_path), search_key(archive, settings, options, calibration, evaluation))
    if state.tried:
        note(f"{state.path}: {len(state.tried)} recipes are known from before")
    return _walk(ground, goal, state, har_path)


def ladder(arch: zoo.HwArch, options: OptimizeOptions, settings: ScriptSettings) -> list[Rung]:
    """The recipes from cheap to dear, from the level and the precision on that the user asks for."""
    start, base_level = (_first_level(options, settings, least) for least in (0, 1))
    rungs = [Rung(f"level {level}", level) for level in OPTIMIZATION_LEVELS if level >= start]
    rungs.insert(1 + base_level - start, Rung("other ranges"))
    rungs += [Rung(name) for name in MIXED]
    base = Precision.parse(options.precision or arch.default_precision)
    wider = (
        (Precision(16, base.weight_bits), Precision(16, 16)) if base.weight_bits > 4 else (Precision(8, 8),)
    )
    for precision in dict.fromkeys((*wider, Precision(16, 16))):
        taken = (
            precision.activation_bits in arch.activation_bits and precision.weight_bits in arch.weight_bits
        )
        if taken and precision != base:
            rungs.append(Rung(f"all {precision}", base_level, str(precision)))
    return rungs


def _first_level(options: OptimizeOptions, settings: ScriptSettings, least: int) -> int:
    asked = options.optimization_level
    return max(least, (settings.optimization_level or 0) if asked is None else asked)


def _walk(ground: Ground, goal: SearchGoal, state: State, har_path: Path) -> SearchResult:
    began = time.monotonic()
    rungs = ladder(working_arch(ground.archive, ground.options.hw_arch), ground.options, ground.settings)
    made: dict[str, Archive] = {}
    rows: list[Tried] = []
    best: Tried | None = None
    metric = goal.metric or ""
    for rung in rungs:
        row = state.tried.get(rung.name)
        if row is None:
            left = math.inf if goal.budget_seconds is None else goal.budget_seconds - time.monotonic() + began
            expected = _expected(rung, rows)
            if best is not None and expected > left:
                why = f"left out: {expected:.0f} s expected, {max(left, 0):.0f} s left"
                rows.append(Tried(rung.name, note=why))
                continue
            row = _try(ground, rung, state, made, first=best is None)
        rows.append(row)
        if not row.lost:
            continue
        metric = _metric(row, goal.metric, ground.config)
        if best is None or row.lost[metric]["high"] < best.lost[metric]["high"]:
            best = row
            _keep(ground, rung, state, made, har_path)
        if row.lost[metric]["high"] <= goal.max_degradation:
            break
    assert best is not None  # a first recipe that cannot be made is an error
    return SearchResult(
        archive=_finish(state, har_path, rows, metric, best),
        har=har_path,
        metric=metric,
        max_degradation=goal.max_degradation,
        tried=tuple(rows),
        best=best.recipe,
        holds=best.lost[metric]["high"] <= goal.max_degradation,
        images=len(ground.evaluation),
    )


def _try(ground: Ground, rung: Rung, state: State, made: dict[str, Archive], first: bool) -> Tried:
    """Makes and judges one recipe, and writes down what came of it. `first`: nothing has worked so far."""
    ground.note(f"{rung.name}:")
    began = time.monotonic()
    try:
        archive, why = _make(ground, rung, state, made)
    except UserError as error:
        if first:
            raise
        archive, why = None, str(error)
    if archive is None:
        return Tried(rung.name, note=f"left out: {why}")
    made.clear()
    made[rung.name] = archive
    judged = evaluate_archive(
        archive,
        tasks.load(ground.config),
        ground.evaluation,
        EvalOptions(target="emulator"),
        progress=ground.progress,
        note=ground.note,
    )
    assert archive.quantization is not None
    summary = summarize(archive.working_graph, archive.quantization)
    state.tried[rung.name] = Tried(
        rung.name,
        lost=_lost(judged),
        snr_db=None if judged.snr_db is None else round(min(judged.snr_db, 200.0), 2),
        precision=judged.precision,
        seconds=round(time.monotonic() - began, 1),
        weight_bytes=summary["weight_bytes"] + summary["bias_bytes"],
        bit_operations=bit_operations(archive.working_graph, archive.quantization),
        script=archive.script,
    )
    state.save()
    return state.tried[rung.name]


def _make(ground: Ground, rung: Rung, state: State, made: dict[str, Archive]) -> tuple[Archive | None, str]:
    """The archive of a rung, or why there is none. `made`: the last ones, by name."""
    if rung.name in made:
        return made[rung.name], ""
    if rung.level is not None:
        precision = rung.precision or ground.options.precision
        compression = 0 if rung.precision else ground.options.compression_level
        options = dataclasses.replace(
            ground.options, optimization_level=rung.level, precision=precision, compression_level=compression
        )
        settings = (
            ground.settings if rung.precision is None else dataclasses.replace(ground.settings, precisions={})
        )
        return _optimized(ground, settings, options)
    if not state.patches:
        state.patches = _patches(ground, state, made)
        state.save()
    text = state.patches[rung.name]
    return _from_script(ground, text) if text else (None, "the analysis finds nothing to change")


def _from_script(ground: Ground, text: str) -> tuple[Archive | None, str]:
    """What a complete script makes of the network; no option but those that no script can say counts beside it."""
    settings = script.apply(
        script.parse_script(text, "search"), [layer.name for layer in ground.archive.graph.layers]
    )
    options = OptimizeOptions(
        hw_arch=ground.options.hw_arch,
        seed=ground.options.seed,
        precision=ground.options.precision,
        cache=ground.options.cache,
    )
    return _optimized(ground, settings, options)


def _optimized(
    ground: Ground, settings: ScriptSettings, options: OptimizeOptions
) -> tuple[Archive | None, str]:
    options = dataclasses.replace(options, allow_fallback=False)
    result = optimize_archive(
        ground.archive,
        ground.config,
        settings,
        options,
        ground.calibration,
        progress=ground.progress,
        note=ground.note,
    )
    missed = [step for step in result.steps if step.missed]
    return (None, "; ".join(step.note for step in missed)) if missed else (result.archive, "")


def _patches(ground: Ground, state: State, made: dict[str, Archive]) -> dict[str, str]:
    """The scripts of the recipes that an analysis of the first level with rounding proposes, by recipe."""
    level = _first_level(ground.options, ground.settings, least=1)
    archive, _ = _make(ground, Rung(f"level {level}", level), state, made)
    if archive is None:
        return dict.fromkeys(("other ranges", *MIXED), "")
    graph = archive.working_graph
    count = min(enough_images(graph), image_limit(graph), len(ground.calibration))
    images = sampled(archive, ground.config, ground.calibration, count)
    analysis = measure(archive, images, ground.progress)
    found = {}
    for name, mends, goal_db in (
        ("other ranges", analysis.range_mends(), math.inf),
        *((name, analysis.mends(), db) for name, db in MIXED.items()),
    ):
        chosen, gain_db = worst_first(mends, analysis.total, goal_db)
        found[name] = patch(archive, chosen, gain_db) if chosen else ""
    return found


def _keep(ground: Ground, rung: Rung, state: State, made: dict[str, Archive], har_path: Path) -> None:
    """Has the archive of a recipe at its path, made again where it is not there."""
    if state.kept == (rung.name, file_digest(har_path)):
        return
    archive, why = _make(ground, rung, state, made)
    if archive is None:
        raise UserError(f"{rung.name}: {why}")
    har.write(archive, har_path)
    state.kept = rung.name, file_digest(har_path)
    state.save()


def _finish(state: State, har_path: Path, rows: Sequence[Tried], metric: str, best: Tried) -> Archive:
    """The kept archive with the table of the search in its report, without the times, which differ from run to run."""
    archive = har.read(har_path)
    table = [
        {key: value for key, value in dataclasses.asdict(row).items() if key not in ("seconds", "script")}
        for row in rows
        if row.lost
    ]
    archive.report = archive.report | {"search": {"metric": metric, "best": best.recipe, "tried": table}}
    har.write(archive, har_path)
    state.kept = best.recipe, file_digest(har_path)
    state.save()
    return archive


def _lost(judged: EvalResult) -> dict[str, dict[str, float]]:
    """What was lost by metric, in points, with its paired interval."""
    assert judged.agreement is not None and judged.agreement_ci95 is not None
    low, high = judged.agreement_ci95
    agreement = {"value": 100 - judged.agreement, "low": 100 - high, "high": 100 - low}
    lost = {
        name: {key: float(value) for key, value in loss.items()}
        for name, loss in (judged.degradation or {}).items()
    }
    return lost | {"agreement": agreement}


def _metric(tried: Tried, asked: str | None, config: zoo.NetworkConfig) -> str:
    """The metric that decides: the one asked for, else the task's own, else, without labels, agreement with float."""
    assert tried.lost is not None
    if asked is not None:
        if asked not in tried.lost:
            raise UserError(f"--metric {asked}: these images and this task give {', '.join(tried.lost)}")
        return asked
    own = getattr(tasks.load(config), "metric", "")
    return own if own in tried.lost else "agreement"


def _expected(rung: Rung, rows: list[Tried]) -> float:
    """Seconds that a recipe should take, by those that came before it."""
    slowest = max((row.seconds for row in rows), default=0.0)
    return slowest * (_TRAINING if rung.level is not None and rung.level > 1 else 1)
