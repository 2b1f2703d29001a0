"""Settings -> the script in force, which `parse_script` and `apply` read back to the same settings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from mz.script import published
from mz.script.settings import ScriptSettings

T = TypeVar("T", bound=Hashable)


def render(settings: ScriptSettings) -> str:
    """One statement a line, layers with the same setting together; empty for settings that say nothing."""
    lines = []
    flavor = _keywords(
        optimization_level=settings.optimization_level, compression_level=settings.compression_level
    )
    if flavor:
        lines.append(f"model_optimization_flavor({flavor})")
    calibration = _keywords(batch_size=settings.calib_batch_size, calibset_size=settings.calib_count)
    if calibration:
        lines.append(f"model_optimization_config(calibration, {calibration})")
    for name in settings.disabled:
        stage = "post" if name in published.POST_QUANTIZATION else "pre"
        lines.append(f"{stage}_quantization_optimization({name}, policy=disabled)")
    for (mode, low, high), layers in _grouped(settings.activation_ranges).items():
        values = f"mode={mode}, clipping_values=[{low!r}, {high!r}]"
        lines.append(f"pre_quantization_optimization(activation_clipping, layers={layers}, {values})")
    for weights_mode, layers in _grouped(settings.weight_clipping).items():
        lines.append(f"pre_quantization_optimization(weights_clipping, layers={layers}, mode={weights_mode})")
    for precision, layers in _grouped(settings.precisions).items():
        lines.append(f"quantization_param({layers}, precision_mode={precision})")
    return "".join(line + "\n" for line in lines)


def _keywords(**values: int | None) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _grouped(by_layer: Mapping[str, T]) -> dict[T, str]:
    """`[conv1, conv2]` for each value, values in the order of their first layer."""
    groups: dict[T, list[str]] = {}
    for layer, value in by_layer.items():
        groups.setdefault(value, []).append(layer)
    return {value: f"[{', '.join(layers)}]" for value, layers in groups.items()}
