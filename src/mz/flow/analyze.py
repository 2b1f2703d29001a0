"""The analysis: which layers a quantized network's noise comes from, and a script that mends the worst of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mz import data, script, tasks
from mz.archive import Archive
from mz.errors import UserError
from mz.flow.calibration import open_set
from mz.flow.networks import configuration, load, only_input, working_arch
from mz.flow.options import AnalyzeResult, ModelRef, Note, Progress, no_note, no_progress
from mz.graph import Graph, Quantization
from mz.optimize import device_input
from mz.quantize import (
    Alone,
    Mend,
    Observed,
    image_limit,
    mended,
    mends,
    noise_alone,
    observe,
    output_noise,
    try_ranges,
    worst_first,
)
from mz.script import ScriptSettings

IMAGES = 32
GOAL_DB = 3.0
"""What the script should bring, unless the user says otherwise."""
RANGED_GROUPS = 8
"""Other ranges are tried for so many of the noisiest groups of tensors."""
_QUIET_DB = 200.0


def analyze(
    ref: ModelRef,
    *,
    data_path: Path | None = None,
    data_count: int | None = None,
    goal_db: float = GOAL_DB,
    progress: Progress = no_progress,
    note: Note = no_note,
) -> AnalyzeResult:
    """Measures a quantized archive on images of its calibration set, or on those at `data_path`.

    goal_db: by how much the script should lower the noise of the outputs. Raises UserError for an archive without
    integers.
    """
    archive = load(ref, note=note, progress=progress)
    if archive.quantization is None:
        raise UserError(
            f"{archive.name}: no integers yet (state {archive.state}): run `mz optimize` and give its archive by --har"
        )
    images = _images(archive, ref, data_path, data_count, note)
    return analyze_archive(archive, images, goal_db=goal_db, progress=progress)


def analyze_archive(
    archive: Archive,
    images: Mapping[str, np.ndarray],
    *,
    goal_db: float = GOAL_DB,
    progress: Progress = no_progress,
) -> AnalyzeResult:
    """Likewise for an archive at hand; images float32 [N, *shape] by Input layer, as the device takes them."""
    graph, params, quantization = archive.working_graph, archive.working_params, archive.quantization
    assert quantization is not None
    count = len(next(iter(images.values())))
    with progress("integer network", count) as advance:
        observed, noise = observe(graph, params, quantization, images, advance)
    with progress("layers alone", len(observed), "layers") as advance:
        alone = noise_alone(
            graph,
            params,
            quantization,
            images,
            bias_corrected=_settings(archive).bias_correction is True,
            layer_done=lambda name: advance(1),
        )
    loudest = sorted(output_noise(graph, alone).items(), key=lambda item: -item[1])[:RANGED_GROUPS]
    groups = [group for group, power in loudest if power > 0]
    with progress("other ranges", len(groups), "groups") as advance:
        ranges = try_ranges(graph, params, quantization, images, groups, lambda name: advance(1))
    arch = working_arch(archive, None)
    settings = _settings(archive)
    found = mends(
        graph,
        quantization,
        alone,
        ranges,
        layers=settings.precisions,
        activation_bits=arch.activation_bits,
        weight_bits=arch.weight_bits,
    )
    total = sum(own.both for own in alone.values())
    chosen, gain_db = worst_first(found, total, goal_db)
    rows = _rows(graph, quantization, alone, observed, total)
    report = {
        "images": count,
        "output_db": _db(noise),
        "predicted_db": _db(total),
        "layers": rows,
        "mends": [_described(mend, total) for mend in found],
    }
    return AnalyzeResult(
        archive=dataclasses.replace(archive, report=archive.report | {"analysis": report}),
        report=report,
        script=_script(archive, settings, quantization, chosen, gain_db),
        mends=tuple(map(str, chosen)),
        gain_db=gain_db,
    )


def _images(
    archive: Archive, ref: ModelRef, data_path: Path | None, data_count: int | None, note: Note
) -> dict[str, np.ndarray]:
    config = configuration(archive, ref)
    dataset = data.open_calibration(config, data_path)
    count = min(data_count or IMAGES, len(dataset))
    if (most := image_limit(archive.working_graph)) < count:
        note(f"{most} of {count} images: more would take too much memory")
        count = most
    found = open_set(dataset, tasks.load(config), only_input(archive.graph), count).sample(count)
    return {name: device_input(archive.input_form, value) for name, value in found.items()}


def _settings(archive: Archive) -> ScriptSettings:
    """What the archive's script asks for."""
    statements = script.parse_script(archive.script, f"{archive.name}.alls")
    return script.apply(statements, [layer.name for layer in archive.graph.layers])


def _rows(
    graph: Graph,
    quantization: Quantization,
    alone: Mapping[str, Alone],
    observed: Mapping[str, Observed],
    total: float,
) -> list[dict[str, Any]]:
    """One a layer in plain data, the one that adds most noise first; layers that only move integers last."""
    rows = []
    for name, seen in observed.items():
        own = alone.get(name)
        row: dict[str, Any] = {
            "layer": name,
            "kind": graph[name].kind,
            "precision": str(quantization.layer_precision(name)),
            "share": own.both / total if own and total > 0 else 0.0,
            "alone_db": _db(own.both) if own else None,
            "alone_weights_db": _db(own.weights) if own and name in quantization.weights else None,
            "alone_output_db": _db(own.output) if own else None,
        }
        rows.append(row | dataclasses.asdict(seen) | {"snr_db": round(min(seen.snr_db, _QUIET_DB), 2)})
    return sorted(rows, key=lambda row: -row["share"])


def _db(noise: float) -> float:
    return round(min(-10 * math.log10(noise), _QUIET_DB), 2) if noise > 0 else _QUIET_DB


def _described(mend: Mend, total: float) -> dict[str, Any]:
    plain: dict[str, Any] = {"layer": mend.layer, "what": mend.what, "share": mend.removed / total}
    return plain | ({"bounds": list(mend.bounds)} if mend.bounds else {"bits": mend.bits})


def _script(
    archive: Archive,
    settings: ScriptSettings,
    quantization: Quantization,
    chosen: Sequence[Mend],
    gain_db: float,
) -> str:
    """The archive's script with the changes in it, complete, so that it runs as it is."""
    precisions, bounds = mended(settings.precisions, quantization, chosen)
    ranges = settings.activation_ranges | {name: ("manual", *ends) for name, ends in bounds.items()}
    changed = dataclasses.replace(settings, precisions=precisions, activation_ranges=ranges)
    lines = [f"# {archive.name}: should lower the noise of the outputs by {gain_db:.1f} dB"]
    lines += [f"#   {mend}" for mend in chosen]
    return "\n".join(lines) + "\n" + script.render(changed)
