"""Runs QFT and AdaRound: on the images apart from which the integer engine judges what came of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz import data
from mz.errors import UserError
from mz.flow.calibration import CalibrationSet, Images
from mz.flow.options import Progress, Step
from mz.flow.tuning import NAMES, Algorithm, name_of
from mz.graph import Graph, Params, Quantization, Weighted
from mz.quantize import (
    AdaRound,
    Checkpoint,
    Finetune,
    Recipe,
    Refinements,
    adaround,
    block_count,
    finetune,
    fingerprint,
    refine,
)
from mz.zoo.cache import cache_root

_CHECKPOINT_FORM = 3
"""Grows when checkpoints hold other arrays, or a run from the same start ends elsewhere."""

Outcome = tuple[Quantization, str, dict[str, Any]]
"""Integers, what to say of them, and what was measured."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A network and its images. learned_from, judged: float32 [N, *shape] by Input layer, no image in both."""

    graph: Graph
    params: Params
    recipe: Recipe
    seed: int
    learned_from: Images
    judged: Images
    progress: Progress


def tune(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    planned: tuple[Algorithm, ...],
    pool: CalibrationSet | None,
    sample: Images,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    *,
    bias_correction: bool = True,
) -> tuple[Quantization, list[Step], dict[str, Any]]:
    """Runs what is planned, each on the result of the one before; never ends with worse integers than it was given.

    pool: the images to learn from and to judge on. sample: those that bias correction after each takes, where it is
    not switched off.
    """
    if not planned or pool is None:
        return quantization, [], {}
    from mz.quantize.learned.distillation import Target, default_layers
    from mz.quantize.learned.judge import Judge

    _check_layers(graph, planned)
    pool, apart = _pool(pool, planned)
    feed = pool.sample(len(apart))[pool.feed]
    judged = {pool.feed: feed[apart]}
    judge = Judge(graph, params, judged, [Target(name) for name in default_layers(graph)])
    loss = judge.loss(quantization)
    steps: list[Step] = []
    report: dict[str, Any] = {}
    checkpoints: list[Checkpoint] = []
    for algorithm in planned:
        name = name_of(algorithm)
        learned_from = {pool.feed: _spread(feed[~apart], algorithm.dataset_size - int(apart.sum()))}
        work = _Work(graph, params, recipe, seed, learned_from, judged, progress)
        checkpoints.append(_checkpoint(work, quantization, algorithm))
        run = _adaround if isinstance(algorithm, AdaRound) else _finetune
        found, note, report[name] = run(work, quantization, algorithm, checkpoints[-1])
        tried = {"": found}
        if bias_correction:
            biases = Refinements(rounding=False)
            corrected = refine(graph, params, found, recipe, sample, biases, seed=seed)
            tried[", then bias correction"] = corrected
        losses = {how: judge.loss(each) for how, each in tried.items()}
        best = min(losses, key=losses.__getitem__)
        report[name] |= {"loss_before": loss, "loss": losses[best], "bias_correction": bool(best)}
        if losses[best] < loss:
            note += f"{best}; held-out loss {loss:.3g} -> {losses[best]:.3g}"
            quantization, loss = tried[best], losses[best]
        else:
            note += "; nothing better than before was found, which stays"
        steps.append(Step(NAMES[name], True, True, note))
    for checkpoint in checkpoints:
        checkpoint.remove()
    return quantization, steps, report


def judging(pool: CalibrationSet, planned: tuple[Algorithm, ...]) -> Images:
    """The images that `tune` will judge on: what has not seen them must not be compared with what has."""
    pool, apart = _pool(pool, planned)
    judges = dataclasses.replace(pool, dataset=pool.dataset.take(np.flatnonzero(apart)))
    return judges.sample(len(judges.dataset))


def _pool(pool: CalibrationSet, planned: tuple[Algorithm, ...]) -> tuple[CalibrationSet, np.ndarray]:
    """As many of the images as are asked for, and which of them are held out, bool [N]."""
    from mz.quantize.learned.judge import held_out

    count = min(max(algorithm.dataset_size for algorithm in planned), len(pool.dataset))
    return dataclasses.replace(pool, dataset=data.subset(pool.dataset, count)), held_out(count)


def _adaround(work: _Work, start: Quantization, settings: Algorithm, checkpoint: Checkpoint) -> Outcome:
    assert isinstance(settings, AdaRound)
    with work.progress(_label(settings, checkpoint), block_count(work.graph), "blocks") as advance:
        found, told = adaround(
            work.graph,
            work.params,
            start,
            work.learned_from,
            work.judged,
            settings,
            work.recipe,
            seed=work.seed,
            checkpoint=checkpoint,
            block_done=lambda block: advance(1),
        )
    better = sum(after < before for before, after in told.blocks.values())
    note = f"{better} of {len(told.blocks)} blocks gained, {told.images} images, {settings.epochs} epochs"
    return found, note, dataclasses.asdict(told)


def _finetune(work: _Work, start: Quantization, settings: Algorithm, checkpoint: Checkpoint) -> Outcome:
    assert isinstance(settings, Finetune)
    images = len(next(iter(work.learned_from.values())))
    with work.progress(_label(settings, checkpoint), settings.epochs * images) as advance:
        found, told = finetune(
            work.graph,
            work.params,
            start,
            work.learned_from,
            work.judged,
            settings,
            per_layer_scale=work.recipe.per_layer_weight_scale,
            fixed=[name for name, how in work.recipe.layer_ranges.items() if how.method == "manual"],
            seed=work.seed,
            checkpoint=checkpoint,
            images_done=advance,
        )
    note = f"{len(told.losses) - 1} epochs of {told.images} images, best after {told.best}"
    return found, note, dataclasses.asdict(told)


def _label(settings: Algorithm, checkpoint: Checkpoint) -> str:
    return NAMES[name_of(settings)] + (", taken up again" if checkpoint.load() else "")


def _spread(feed: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the images, evenly spaced."""
    count = min(count, len(feed))
    return feed[np.arange(count) * len(feed) // count]


def _checkpoint(work: _Work, start: Quantization, algorithm: Algorithm) -> Checkpoint:
    """The place of this run, and of no other that could end differently."""
    import torch

    settings = {
        "form": _CHECKPOINT_FORM,
        "algorithm": name_of(algorithm),
        "settings": dataclasses.asdict(algorithm),
        "recipe": work.recipe.to_dict(work.graph),
        "seed": work.seed,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
    }
    images = [*work.learned_from.values(), *work.judged.values()]
    key = fingerprint(work.graph, work.params, start, images, settings)
    return Checkpoint(cache_root() / "tuning" / f"{key}.npz")


def _check_layers(graph: Graph, planned: tuple[Algorithm, ...]) -> None:
    for algorithm in planned:
        weighted = isinstance(algorithm, AdaRound)
        what = "adaround: layers" if weighted else "finetune: loss_layer_names"
        for name in algorithm.layers if isinstance(algorithm, AdaRound) else algorithm.loss_layers:
            layer = graph.by_name.get(name)
            if layer is None or layer.host:
                raise UserError(f"{what}: {name} is no accelerator layer of the optimized network")
            if weighted and not isinstance(layer, Weighted):
                raise UserError(f"{what}: {name} has no weights to be rounded")
