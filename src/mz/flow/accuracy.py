"""The accuracy measured so far, which an archive's report keeps by target."""

from __future__ import annotations

import dataclasses
from typing import Any

from mz.archive import Archive
from mz.flow.options import EvalResult

KEY = "accuracy"
_OF_FLOAT = "full_precision"


def with_accuracy(archive: Archive, result: EvalResult, dataset: str) -> Archive:
    """The archive with what was measured in its report; it replaces what the target had before.

    Speed is left out: the same inputs give the same bytes.
    """
    entry: dict[str, Any] = {
        "dataset": dataset,
        "count": result.count,
        "damaged": len(result.damaged),
        "engine": result.engine,
        "precision": result.precision,
        "metrics": result.metrics,
        "ci95": {metric: list(bounds) for metric, bounds in result.ci95.items()},
    }
    for key in ("baseline", "degradation", "agreement", "snr_db", "saturation"):
        if (value := getattr(result, key)) is not None:
            entry[key] = value
    measured = dict(archive.report.get(KEY, {})) | {result.target: entry}
    return dataclasses.replace(archive, report=archive.report | {KEY: measured})


def still_true(report: dict[str, Any]) -> dict[str, Any]:
    """The report without the accuracies that a new optimization makes stale: all but the parsed network's."""
    kept = {target: entry for target, entry in report.get(KEY, {}).items() if target == _OF_FLOAT}
    rest = {key: value for key, value in report.items() if key != KEY}
    return rest | ({KEY: kept} if kept else {})
