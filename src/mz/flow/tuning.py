"""QFT and AdaRound as a recipe asks for them: with what settings, and whether they can be had."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from mz.errors import UserError
from mz.flow.options import Step
from mz.quantize import AdaRound, Finetune
from mz.script import ScriptSettings, Tuning

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


def plan_tuning(level: int, settings: ScriptSettings) -> tuple[Algorithm, ...]:
    """What is to be run, in order. The script's arguments win over the level's. Raises UserError for a bad one."""
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


def fitted(planned: tuple[Algorithm, ...], available: int) -> tuple[Algorithm, ...]:
    """The same with no more images than there are. Raises UserError where those are too few for anything."""
    if planned and available < _FEWEST_IMAGES:
        raise UserError(
            f"{NAMES[name_of(planned[0])]} learns from at least {_FEWEST_IMAGES} calibration images; "
            f"there are {available}: give a larger --calib-path or an --optimization-level of at most 1"
        )
    return tuple(dataclasses.replace(a, dataset_size=min(a.dataset_size, available)) for a in planned)


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
            raise UserError(
                f"finetune: {key} has {len(values)} entries for {len(settings.loss_layers)} loss_layer_names"
            )


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
