"""QFT and AdaRound as a recipe asks for them: with what settings, whether they can be had, and running them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.errors import UserError
from mz.flow.calibration import CalibrationSet, Images
from mz.flow.options import Progress, Step
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
from mz.script import ScriptSettings, Tuning
from mz.zoo.cache import cache_root

NAMES = {"adaround": "AdaRound", "finetune": "QFT"}
ALGORITHMS: dict[str, type[AdaRound | Finetune]] = {"adaround": AdaRound, "finetune": Finetune}
BY_LEVEL: dict[int, dict[str, AdaRound | Finetune]] = {
    2: {"finetune": Finetune()},
    3: {"adaround": AdaRound(dataset_size=256, epochs=100)},
    4: {"adaround": AdaRound(), "finetune": Finetune()},
}
_WITHOUT_TORCH = "PyTorch is not installed: pip install 'mz[qft]', or --allow-fallback goes on without"
_FIELDS = {"loss_layer_names": "loss_layers", "def_loss_type": "default_loss"}
"""Arguments of the script whose field has another name."""
_LOSS_TYPES = ("l2rel", "l2", "cosine", "ce")
_FEWEST_IMAGES = 16

Algorithm = AdaRound | Finetune
T = TypeVar("T")


def plan_tuning(level: int, settings: ScriptSettings) -> tuple[Algorithm, ...]:
    """What is to be run, in order. The script's arguments win over the level's. Raises UserError for one out of range."""
    planned: dict[str, Algorithm] = dict(BY_LEVEL.get(level, {}))
    for tuning in settings.tuning:
        planned[tuning.algorithm] = _with_arguments(
            planned.get(tuning.algorithm, ALGORITHMS[tuning.algorithm]()), tuning
        )
    return tuple(planned[name] for name in ALGORITHMS if name in planned and name not in settings.disabled)


def name_of(algorithm: Algorithm) -> str:
    """As the script calls it."""
    return next(name for name, kind in ALGORITHMS.items() if isinstance(algorithm, kind))


def without_torch(planned: tuple[Algorithm, ...]) -> list[Step]:
    """Lines of the table for what cannot be run on this machine."""
    if importlib.util.find_spec("torch") is not None:
        return []
    return [Step(NAMES[name_of(algorithm)], True, False, _WITHOUT_TORCH) for algorithm in planned]


def too_few_images(planned: tuple[Algorithm, ...], available: int) -> list[Step]:
    """Likewise for what wants more images than there are."""
    return [
        Step(
            NAMES[name_of(algorithm)],
            True,
            False,
            f"wants {algorithm.dataset_size} calibration images, there are {available}: give a larger --calib-path, "
            f"set dataset_size in the model script, or --allow-fallback takes those {available}",
        )
        for algorithm in planned
        if available < algorithm.dataset_size
    ]


def as_tuning(algorithm: Algorithm) -> Tuning:
    """The statement of a script that asks for exactly this."""
    back = {field: key for key, field in _FIELDS.items()}
    given = (
        (back.get(field.name, field.name), getattr(algorithm, field.name))
        for field in dataclasses.fields(algorithm)
    )
    return Tuning(name_of(algorithm), tuple((key, value) for key, value in given if value != ()))


def tune(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    planned: tuple[Algorithm, ...],
    pool: CalibrationSet | None,
    sample: Images,
    session: FloatSession,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> tuple[Quantization, list[Step], dict[str, Any]]:
    """Runs what is planned, each on the result of the one before; never ends with worse integers than it was given.

    pool: the images to learn from. sample, session: what bias correction after each takes, as `refine` does.
    """
    if not planned or pool is None:
        return quantization, [], {}
    from mz.quantize.learned.distillation import Target, default_layers
    from mz.quantize.learned.judge import Judge, held_out

    images = pool.sample(max(algorithm.dataset_size for algorithm in planned))
    feed = images[pool.feed]
    apart = held_out(len(feed))
    judged = {pool.feed: feed[apart]}
    judge = Judge(graph, params, judged, [Target(name) for name in default_layers(graph)])
    first = loss = judge.loss(quantization)
    steps: list[Step] = []
    report: dict[str, Any] = {}
    checkpoints: list[Checkpoint] = []
    for algorithm in planned:
        name = name_of(algorithm)
        part = {pool.feed: _spread(feed[~apart], algorithm.dataset_size - int(apart.sum()))}
        checkpoint = _checkpoint(graph, params, quantization, feed, algorithm, recipe, seed)
        checkpoints.append(checkpoint)
        label = NAMES[name] + (", taken up again" if checkpoint.path and checkpoint.path.is_file() else "")
        if isinstance(algorithm, AdaRound):
            _check_layers(graph, algorithm.layers, "adaround: layers", weighted=True)
            with progress(label, block_count(graph), "blocks") as advance:
                found, told = adaround(
                    graph, params, quantization, part, judged, algorithm,
                    seed=seed, checkpoint=checkpoint, block_done=lambda block, advance=advance: advance(1),
                )  # fmt: skip
            better = sum(after < before for before, after in told.blocks.values())
            note = f"{better} of {len(told.blocks)} blocks gained, {told.images} images, {algorithm.epochs} epochs"
        else:
            _check_layers(graph, algorithm.loss_layers, "finetune: loss_layer_names")
            fixed = [layer for layer, how in recipe.layer_ranges.items() if how.method == "manual"]
            with progress(label, algorithm.epochs * len(part[pool.feed])) as advance:
                found, told = finetune(
                    graph, params, quantization, part, judged, algorithm, fixed=fixed, seed=seed, checkpoint=checkpoint,
                    per_layer_scale=recipe.per_layer_weight_scale, images_done=advance,
                )  # fmt: skip
            note = f"{len(told.losses) - 1} epochs of {told.images} images, best after {told.best}"
        report[name] = dataclasses.asdict(told)
        corrected = refine(graph, params, found, sample, session, Refinements(rounding=False), seed=seed)
        tried = {"": found, ", then bias correction": corrected}
        losses = {how: judge.loss(each) for how, each in tried.items()}
        best = min(losses, key=losses.__getitem__)
        report[name] |= {"loss_before": loss, "loss": losses[best], "bias_correction": bool(best)}
        if losses[best] < loss:
            quantization, loss = tried[best], losses[best]
            note += f"{best}; held-out loss {report[name]['loss_before']:.3g} -> {loss:.3g}"
        else:
            note += "; nothing better than before was found, which stays"
        steps.append(Step(NAMES[name], True, True, note))
    for checkpoint in checkpoints:
        checkpoint.remove()
    assert loss <= first
    return quantization, steps, report


def fitted(planned: tuple[Algorithm, ...], available: int) -> tuple[Algorithm, ...]:
    """The same with no more images than there are. Raises UserError where those are too few for anything."""
    if planned and available < _FEWEST_IMAGES:
        raise UserError(
            f"{NAMES[name_of(planned[0])]} learns from at least {_FEWEST_IMAGES} calibration images; "
            f"there are {available}: give a larger --calib-path or an --optimization-level of at most 1"
        )
    return tuple(dataclasses.replace(a, dataset_size=min(a.dataset_size, available)) for a in planned)


def _spread(feed: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the images, evenly spaced."""
    count = min(count, len(feed))
    return feed[np.arange(count) * len(feed) // count]


def _checkpoint(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: np.ndarray,
    algorithm: Algorithm,
    recipe: Recipe,
    seed: int,
) -> Checkpoint:
    import torch

    settings = {
        "algorithm": name_of(algorithm),
        "settings": dataclasses.asdict(algorithm),
        "recipe": recipe.to_dict(graph),
        "seed": seed,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
    }
    key = fingerprint(graph, params, quantization, images, settings)
    return Checkpoint(cache_root() / "tuning" / f"{key}.npz")


def _check_layers(graph: Graph, names: tuple[str, ...], what: str, *, weighted: bool = False) -> None:
    for name in names:
        layer = graph.by_name.get(name)
        if layer is None or layer.host:
            raise UserError(f"{what}: {name} is no accelerator layer of the optimized network")
        if weighted and not isinstance(layer, Weighted):
            raise UserError(f"{what}: {name} has no weights to be rounded")


def _with_arguments(algorithm: Algorithm, tuning: Tuning) -> Algorithm:
    given: dict[str, Any] = {}
    for key, value in tuning.arguments:
        if key == "meta_arch":
            continue  # it picks losses by a family of networks; here the layers do
        check, meaning = _CHECKS[key]
        if not check(value):
            raise UserError(f"{tuning.algorithm}: {key}={value!r}: {key} wants {meaning}")
        given[_FIELDS.get(key, key)] = value
    found = dataclasses.replace(algorithm, **given)
    if isinstance(found, Finetune):
        _check_losses(found)
    return found


def _check_losses(settings: Finetune) -> None:
    for key in ("loss_types", "loss_factors"):
        values = getattr(settings, key)
        if values and len(values) != len(settings.loss_layers):
            raise UserError(f"finetune: {key} has {len(values)} entries for {len(settings.loss_layers)} loss_layer_names")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _each(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(check(item) for item in value)


def _loss(value: object) -> bool:
    return value in _LOSS_TYPES


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "epochs": (_whole, "a whole number of at least 1"),
    "dataset_size": (
        lambda value: _whole(value) and value >= _FEWEST_IMAGES,  # type: ignore[operator]
        f"a whole number of at least {_FEWEST_IMAGES}",
    ),
    "batch_size": (_whole, "a whole number of at least 1"),
    "learning_rate": (_number, "a number of at least 0"),
    "warmup_epochs": (_number, "a number of at least 0"),
    "train_bias": (lambda value: isinstance(value, bool), "True or False"),
    "train_scales": (lambda value: isinstance(value, bool), "True or False"),
    "layers": (_each(lambda value: isinstance(value, str)), "layers"),
    "loss_layer_names": (_each(lambda value: isinstance(value, str)), "layers"),
    "loss_types": (_each(_loss), f"a list of {', '.join(_LOSS_TYPES)}"),
    "loss_factors": (_each(_number), "a list of numbers of at least 0"),
    "def_loss_type": (_loss, f"one of {', '.join(_LOSS_TYPES)}"),
}
