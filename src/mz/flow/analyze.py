"""The analysis: which layers a quantized network's noise comes from, and a script that mends the worst of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mz import data, script, tasks, zoo
from mz.archive import Archive
from mz.errors import UserError
from mz.flow.calibration import open_set
from mz.flow.networks import configuration, load, only_input, working_arch
from mz.flow.options import AnalyzeResult, ModelRef, Note, Progress, no_note, no_progress
from mz.graph import Graph, Quantization
from mz.optimize import device_input
from mz.quantize import (
    RANGE_ALONE,
    Alone,
    Mend,
    Observed,
    Range,
    enough_images,
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
    analysis = measure(archive, images, progress)
    chosen, gain_db = worst_first(analysis.mends(), analysis.total, goal_db)
    return AnalyzeResult(
        archive=dataclasses.replace(archive, report=archive.report | {"analysis": analysis.report()}),
        report=analysis.report(),
        script=patch(archive, chosen, gain_db),
        mends=tuple(map(str, chosen)),
        gain_db=gain_db,
    )


@dataclass(frozen=True)
class Analysis:
    """What was measured of an archive. noise: of the outputs of the integer network, over their power."""

    archive: Archive
    images: int
    noise: float
    alone: dict[str, Alone]
    observed: dict[str, Observed]
    ranges: dict[tuple[str, ...], Range]

    @property
    def total(self) -> float:
        """The noise that all layers alone add."""
        return sum(own.both for own in self.alone.values())

    def mends(self) -> list[Mend]:
        """What would lower the noise, most first."""
        arch = working_arch(self.archive, None)
        return self._mends(activation_bits=arch.activation_bits, weight_bits=arch.weight_bits)

    def range_mends(self) -> list[Mend]:
        """Likewise with other ranges alone, which cost nothing at run time."""
        return self._mends(activation_bits=(), weight_bits=(), range_pays=RANGE_ALONE)

    def _mends(self, **limits: Any) -> list[Mend]:
        assert self.archive.quantization is not None
        graph, layers = self.archive.working_graph, settings_of(self.archive).precisions
        return mends(graph, self.archive.quantization, self.alone, self.ranges, layers=layers, **limits)

    def report(self) -> dict[str, Any]:
        """In plain data, layers and mends worst first."""
        assert self.archive.quantization is not None
        return {
            "images": self.images,
            "output_db": _db(self.noise),
            "predicted_db": _db(self.total),
            "layers": _rows(
                self.archive.working_graph,
                self.archive.quantization,
                self.alone,
                self.observed,
                self.total,
            ),
            "mends": [_described(mend, self.total) for mend in self.mends()],
        }


def measure(archive: Archive, images: Mapping[str, np.ndarray], progress: Progress = no_progress) -> Analysis:
    """Analyses a quantized archive; images float32 [N, *shape] by Input layer, as the device takes them."""
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
            bias_corrected=settings_of(archive).bias_correction is True,
            layer_done=lambda name: advance(1),
        )
    loudest = sorted(output_noise(graph, alone).items(), key=lambda item: -item[1])[:RANGED_GROUPS]
    groups = [group for group, power in loudest if power > 0]
    with progress("other ranges", len(groups), "groups") as advance:
        ranges = try_ranges(graph, params, quantization, images, groups, lambda name: advance(1))
    return Analysis(archive, count, noise, alone, observed, ranges)


def _images(
    archive: Archive, ref: ModelRef, data_path: Path | None, data_count: int | None, note: Note
) -> dict[str, np.ndarray]:
    config = configuration(archive, ref)
    dataset = data.open_calibration(config, data_path)
    count = min(data_count or enough_images(archive.working_graph), len(dataset))
    if (most := image_limit(archive.working_graph)) < count:
        note(f"{most} of {count} images: more would take too much memory")
        count = most
    return sampled(archive, config, dataset, count)


def sampled(
    archive: Archive, config: zoo.NetworkConfig, dataset: data.Dataset, count: int
) -> dict[str, np.ndarray]:
    """So many images of a data set, evenly spaced, as the device takes them: float32 [N, *shape] by Input layer."""
    found = open_set(dataset, tasks.load(config), only_input(archive.graph), count).sample(count)
    return {name: device_input(archive.input_form, value) for name, value in found.items()}


def settings_of(archive: Archive) -> ScriptSettings:
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
    return plain | ({"percentiles": list(mend.percentiles)} if mend.percentiles else {"bits": mend.bits})


def patch(archive: Archive, chosen: Sequence[Mend], gain_db: float) -> str:
    """The archive's script with the changes in it, complete, so that it runs as it is."""
    assert archive.quantization is not None
    settings = settings_of(archive)
    precisions, percentiles = mended(settings.precisions, archive.quantization, chosen)
    ranges = settings.activation_ranges | {name: ("percentile", *own) for name, own in percentiles.items()}
    changed = dataclasses.replace(settings, precisions=precisions, activation_ranges=ranges)
    lines = [f"# {archive.name}: should lower the noise of the outputs by {gain_db:.1f} dB"]
    lines += [f"#   {mend}" for mend in chosen]
    return "\n".join(lines) + "\n" + script.render(changed)
