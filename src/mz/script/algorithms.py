"""Algorithms of `pre_quantization_optimization` and `post_quantization_optimization`, one function each."""

from __future__ import annotations

from mz.script.grammar import Name, Statement, Value
from mz.script.settings import (
    BUDGETS,
    EQUALIZATION_METHODS,
    IMPORTANCES,
    POLICIES,
    RANGE_SEARCHES,
    WEIGHT_CLIPPING_MODES,
    ClippingRange,
    Equalization,
    Pruning,
    ScriptSettings,
    TiledSqueezeExcite,
    Tuning,
)
from mz.script.values import (
    argument,
    arguments,
    choice,
    count,
    layers,
    numbers,
    optional_layers,
    pair,
    share,
    whole_pair,
    word,
)

FINETUNE_ARGUMENTS = (
    "batch_size", "dataset_size", "def_loss_type", "epochs", "learning_rate", "loss_factors", "loss_layer_names",
    "loss_types", "meta_arch", "train_scales", "warmup_epochs",
)  # fmt: skip
ADAROUND_ARGUMENTS = ("batch_size", "dataset_size", "epochs", "layers", "learning_rate", "train_bias")


def activation_clipping(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("activation_clipping",), ("layers", "mode", "clipping_values", "recollect_stats"))
    selected = layers(statement, argument(statement, "layers"), layer_names)
    mode = word(statement, "mode")
    if statement.kwargs.get("recollect_stats") is True:
        settings.notes.append(
            f"{statement.place}: recollect_stats: statistics are those of the unclipped float network"
        )
    if mode == "disabled":
        if "clipping_values" in statement.kwargs:
            raise statement.error("clipping_values has no meaning with mode=disabled")
        clipping: ClippingRange = ("percentile", 0.0, 100.0)  # the smallest and the largest value seen
    elif mode in RANGE_SEARCHES:
        if "clipping_values" in statement.kwargs:
            raise statement.error(f"clipping_values has no meaning with mode={mode}")
        clipping = (mode, 0.0, 0.0)
    elif mode in ("percentile", "percentile_force", "manual"):
        low, high = pair(statement, "clipping_values")
        if mode == "manual":
            clipping = (mode, low, high)
        else:
            _check_percentiles(statement, low, high)
            clipping = ("percentile", low, high)
    else:
        choice(statement, "mode", ("disabled", "percentile", "percentile_force", "manual", *RANGE_SEARCHES))
    settings.activation_ranges.update(dict.fromkeys(selected, clipping))


def weights_clipping(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("weights_clipping",), ("layers", "mode", "clipping_values"))
    selected = layers(statement, argument(statement, "layers"), layer_names)
    mode = choice(statement, "mode", WEIGHT_CLIPPING_MODES)
    if mode in ("manual", "percentile"):
        low, high = pair(statement, "clipping_values")
        if mode == "percentile":
            _check_percentiles(statement, low, high)
        clipping: ClippingRange = (mode, low, high)
    elif "clipping_values" in statement.kwargs:
        raise statement.error(f"clipping_values has no meaning with mode={mode}")
    else:
        clipping = (mode, 0.0, 0.0)
    settings.weight_clipping.update(dict.fromkeys(selected, clipping))


def _check_percentiles(statement: Statement, low: float, high: float) -> None:
    if not 0 <= low < high <= 100:
        raise statement.error(
            f"clipping_values=[{low:g}, {high:g}]: percentiles rise from 0 to 100, as in [0.01, 99.99]"
        )


def equalization(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    keywords = ("policy", "method", "layers", "max_scale", "bias_absorption")
    arguments(statement, ("equalization",), keywords)
    policy = _policy(statement, default="enabled")
    if policy == "disabled":
        _disable(settings, "equalization")
        return
    given = statement.kwargs
    scale = numbers(statement, given["max_scale"], "max_scale")[0] if "max_scale" in given else None
    if scale is not None and scale < 1:
        raise statement.error("equalization: max_scale wants a number of at least 1")
    settings.equalization = Equalization(
        policy=policy,
        method=choice(statement, "method", EQUALIZATION_METHODS) if "method" in given else "auto",
        layers=optional_layers(statement, layer_names),
        max_scale=scale,
        bias_absorption=choice(statement, "bias_absorption", POLICIES)
        if "bias_absorption" in given
        else "allowed",
    )


def se_optimization(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    keywords = ("method", "mode", "count", "tile_height", "layers", "policy")
    arguments(statement, ("se_optimization",), keywords)
    if _policy(statement) == "disabled" or statement.kwargs.get("mode") == Name("disabled"):
        _disable(settings, "se_optimization")
        return
    choice(statement, "method", ("tse",))
    mode = choice(statement, "mode", ("sequential", "custom"))
    selected = optional_layers(statement, layer_names)
    if (mode == "custom") != (selected is not None):
        raise statement.error(
            "se_optimization: layers names the global pools of mode=custom, and of no other"
        )
    settings.tse = TiledSqueezeExcite(
        tile_height=count(statement, "tile_height"),
        mode=mode,
        count=count(statement, "count") if "count" in statement.kwargs else None,
        layers=selected or (),
    )


def pruning(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("pruning",), ("policy", "ratio", "budget", "importance", "layers"))
    if _policy(statement) == "disabled":
        _disable(settings, "pruning")
        return
    given = statement.kwargs
    settings.pruning = Pruning(
        ratio=_below_one(statement, "ratio"),
        budget=choice(statement, "budget", BUDGETS) if "budget" in given else "macs",
        importance=choice(statement, "importance", IMPORTANCES) if "importance" in given else IMPORTANCES[0],
        layers=optional_layers(statement, layer_names),
    )


def sparsity(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("sparsity",), ("policy", "ratio", "layers"))
    if _policy(statement) == "disabled":
        _disable(settings, "sparsity")
        return
    selected = layers(statement, argument(statement, "layers"), layer_names)
    settings.sparsity.update(dict.fromkeys(selected, _below_one(statement, "ratio")))


def dead_channels(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, (str(statement.args[0]),), ("policy",))
    settings.dead_channels = _policy(statement)


def avgpool_reduction(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("global_avgpool_reduction",), ("layers", "division_factors"))
    selected = layers(statement, argument(statement, "layers"), layer_names)
    factors = whole_pair(statement, "division_factors")
    settings.avgpool_reduction.update(dict.fromkeys(selected, factors))


def bias_correction(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    arguments(statement, ("bias_correction",), ("policy",))
    settings.bias_correction = _policy(statement) != "disabled"


def finetune(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    _tuning(statement, layer_names, settings, FINETUNE_ARGUMENTS)


def adaround(statement: Statement, layer_names: list[str], settings: ScriptSettings) -> None:
    _tuning(statement, layer_names, settings, ADAROUND_ARGUMENTS)


def _tuning(
    statement: Statement, layer_names: list[str], settings: ScriptSettings, keywords: tuple[str, ...]
) -> None:
    algorithm = str(getattr(statement.args[0], "text", ""))
    arguments(statement, (algorithm,), ("policy", *keywords))
    settings.tuning = [tuning for tuning in settings.tuning if tuning.algorithm != algorithm]
    if _policy(statement) == "disabled":
        _disable(settings, algorithm)
        return
    given: list[tuple[str, object]] = []
    for key in keywords:
        if key in statement.kwargs:
            value = statement.kwargs[key]
            if key in ("layers", "loss_layer_names"):
                given.append((key, tuple(layers(statement, value, layer_names))))
            else:
                given.append((key, _plain(value)))
    settings.tuning.append(Tuning(algorithm, tuple(given)))


def _plain(value: Value) -> object:
    if isinstance(value, Name):
        return value.text
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value


def _policy(statement: Statement, default: str = "enabled") -> str:
    return choice(statement, "policy", POLICIES) if "policy" in statement.kwargs else default


def _below_one(statement: Statement, key: str) -> float:
    value = share(statement, key)
    if value >= 1:
        raise statement.error(f"{statement.name}: {key} wants a share below 1: nothing would be left")
    return value


def _disable(settings: ScriptSettings, algorithm: str) -> None:
    if algorithm not in settings.disabled:
        settings.disabled.append(algorithm)
