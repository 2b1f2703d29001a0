"""Settings -> the script in force, which `parse_script` and `apply` read back to the same settings."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from mz.script.settings import (
    RANGE_SEARCHES,
    Equalization,
    InputConversion,
    InputResize,
    NetworkChange,
    Normalization,
    ScriptSettings,
)

T = TypeVar("T", bound=Hashable)

_POST = ("bias_correction", "finetune", "adaround", "mix_precision_search", "train_encoding")


def render(settings: ScriptSettings) -> str:
    """One statement a line, layers with the same setting together; empty for settings that say nothing.

    Notes are not written: what has no meaning here asks for nothing.
    """
    return "".join(line + "\n" for line in _lines(settings))


def _lines(settings: ScriptSettings) -> Iterator[str]:
    yield from map(_change, settings.changes)
    flavor = _keywords(
        optimization_level=settings.optimization_level, compression_level=settings.compression_level
    )
    if flavor:
        yield f"model_optimization_flavor({flavor})"
    calibration = _keywords(batch_size=settings.calib_batch_size, calibset_size=settings.calib_count)
    if calibration:
        yield f"model_optimization_config(calibration, {calibration})"
    if settings.four_bit_ratio is not None:
        yield f"model_optimization_config(compression_params, auto_4bit_weights_ratio={settings.four_bit_ratio!r})"
    if settings.sixteen_bit_ratio is not None:
        yield f"model_optimization_config(compression_params, auto_16bit_weights_ratio={settings.sixteen_bit_ratio!r})"
    for name in settings.disabled:
        stage = "post" if name in _POST else "pre"
        yield f"{stage}_quantization_optimization({name}, policy=disabled)"
    yield from (f"pre_quantization_optimization({line})" for line in _before(settings))
    yield from (f"post_quantization_optimization({line})" for line in _after(settings))
    for precision, layers in _grouped(settings.precisions).items():
        yield f"quantization_param({layers}, precision_mode={precision})"
    for (layer, place), (low, high) in settings.input_ranges.items():
        given = f"force_range_in=[{low!r}, {high!r}], force_range_index={place}"
        yield f"quantization_param([{layer}], {given})"


def _change(change: NetworkChange) -> str:
    if isinstance(change, Normalization):
        source = "" if change.input is None else f", {change.input}"
        return f"{change.name} = normalization({_list(change.mean)}, {_list(change.std)}{source})"
    if isinstance(change, InputConversion):
        source = "" if change.input is None else f"{change.input}, "
        return f"{change.name} = input_conversion({source}{change.conversion})"
    if isinstance(change, InputResize):
        source = "" if change.input is None else f"{change.input}, "
        return f"{change.name} = resize({source}resize_shapes={_list(change.shape)})"
    layer = "" if change.layer is None else f"{change.layer}, "
    return f"change_output_activation({layer}{change.function})"


def _before(settings: ScriptSettings) -> Iterator[str]:
    if settings.dead_channels is not None:
        yield f"dead_channels_removal, policy={settings.dead_channels}"
    for (rows, columns), layers in _grouped(settings.avgpool_reduction).items():
        yield f"global_avgpool_reduction, layers={layers}, division_factors=[{rows}, {columns}]"
    if tse := settings.tse:
        given = _keywords(count=tse.count, layers=_list(tse.layers) if tse.layers else None)
        extra = f", {given}" if given else ""
        yield f"se_optimization, method=tse, mode={tse.mode}, tile_height={tse.tile_height}{extra}"
    if pruning := settings.pruning:
        layers = "" if pruning.layers is None else f", layers={_list(pruning.layers)}"
        yield (
            f"pruning, policy=enabled, ratio={pruning.ratio!r}, budget={pruning.budget}, "
            f"importance={pruning.importance}{layers}"
        )
    for ratio, layers in _grouped(settings.sparsity).items():
        yield f"sparsity, policy=enabled, ratio={ratio!r}, layers={layers}"
    if settings.equalization is not None:
        yield _equalization(settings.equalization)
    for (mode, low, high), layers in _grouped(settings.activation_ranges).items():
        values = "" if mode in RANGE_SEARCHES else f", clipping_values=[{low!r}, {high!r}]"
        yield f"activation_clipping, layers={layers}, mode={mode}{values}"
    for (mode, low, high), layers in _grouped(settings.weight_clipping).items():
        values = f", clipping_values=[{low!r}, {high!r}]" if mode in ("manual", "percentile") else ""
        yield f"weights_clipping, layers={layers}, mode={mode}{values}"


def _equalization(asked: Equalization) -> str:
    given = _keywords(
        layers=None if asked.layers is None else _list(asked.layers),
        max_scale=None if asked.max_scale is None else repr(asked.max_scale),
    )
    extra = f", {given}" if given else ""
    return (
        f"equalization, policy={asked.policy}, method={asked.method}, "
        f"bias_absorption={asked.bias_absorption}{extra}"
    )


def _after(settings: ScriptSettings) -> Iterator[str]:
    if settings.bias_correction is not None:
        yield f"bias_correction, policy={'enabled' if settings.bias_correction else 'disabled'}"
    for tuning in settings.tuning:
        given = "".join(f", {key}={_value(value)}" for key, value in tuning.arguments)
        yield f"{tuning.algorithm}, policy=enabled{given}"


def _value(value: object) -> str:
    return _list(value) if isinstance(value, tuple) else str(value)


def _list(values: tuple[object, ...]) -> str:
    return f"[{', '.join(map(_value, values))}]"


def _keywords(**values: object) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _grouped(by_layer: Mapping[str, T]) -> dict[T, str]:
    """`[conv1, conv2]` for each value, values in the order of their first layer."""
    groups: dict[T, list[str]] = {}
    for layer, value in by_layer.items():
        groups.setdefault(value, []).append(layer)
    return {value: f"[{', '.join(layers)}]" for value, layers in groups.items()}
