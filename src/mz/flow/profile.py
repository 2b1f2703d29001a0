"""What an archive says of its network, gathered as plain data: for the page, the terminal and JSON alike.

Nothing is run or measured here. A section that the archive lacks is left out, and `missing` names the command that adds
it. docs/profile.md lists the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mz
from mz import archive as har
from mz.archive import Archive
from mz.compiler import summarize
from mz.flow.layer_facts import layer_facts, saturation
from mz.report.plain import known, plain

_ACCURACY_ORDER = ("full_precision", "fp_optimized", "emulator")
_PLANS = ("memory_plan", "schedule", "estimate")


def profile_file(path: Path) -> dict[str, Any]:
    """`profile` of the archive in the file. Raises UserError for one that cannot be read."""
    return profile(har.read(path), path.name)


def profile(archive: Archive, file: str | None = None) -> dict[str, Any]:
    """Sections by key, ready for JSON: bytes and MACs for one image, SNR in dB, metrics in %.

    file: the archive's name in the commands that `missing` holds; by default that which the stages give it.
    """
    report = archive.report
    compiled = report.get("compile", {})
    plans = {key: compiled[key] for key in _PLANS if compiled.get(key)}
    optional = {
        "accuracy": _accuracy(report),
        "noise": _noise(report),
        "steps": report.get("optimize", {}).get("steps"),
        "passes": report.get("optimize", {}).get("passes"),
        "notes": [*report.get("parse", {}).get("notes", []), *report.get("optimize", {}).get("notes", [])],
        "recipe": _settings(archive, "optimize"),
        "verify": known(compiled.get("verify")),
        "artefacts": [{"path": path, "bytes": len(data)} for path, data in sorted(archive.artefacts.items())],
        **plans,
    }
    gathered: dict[str, Any] = plain(
        {
            "format": 1,
            "tool_version": mz.__version__,
            "network": _network(archive),
            "totals": _totals(archive),
            "layers": layer_facts(archive, plans),
            **{key: value for key, value in optional.items() if value},
            "missing": _missing(archive, optional, file or f"{archive.name}.har"),
        }
    )
    return gathered


def _network(archive: Archive) -> dict[str, Any]:
    graph = archive.working_graph
    return {
        "name": archive.name,
        "state": archive.state,
        "hw_arch": archive.hw_arch,
        "task": archive.config.get("network", {}).get("task"),
        "precision": _precisions(archive),
        "inputs": [layer.name for layer in graph.inputs],
        "outputs": list(graph.outputs),
        "parity_db": archive.report.get("parse", {}).get("parity_db"),
        "source_sha256": (_settings(archive, "parse") or {}).get("source_sha256"),
    }


def _precisions(archive: Archive) -> dict[str, int]:
    """How many layers with weights have each precision; float32 before quantization."""
    quantization = archive.quantization
    if quantization is None:
        return {"float32": sum("kernel" in arrays for arrays in archive.working_params.values())}
    found = [str(quantization.layer_precision(name)) for name in quantization.weights]
    return {precision: found.count(precision) for precision in sorted(set(found))}


def _totals(archive: Archive) -> dict[str, Any]:
    """Of the working graph; a float network's weights have 4 bytes each and its tensors no peak."""
    graph, params = archive.working_graph, archive.working_params
    coverage = graph.coverage()
    parameters = sum(array.size for arrays in params.values() for array in arrays.values())
    totals: dict[str, Any] = {
        "layers": coverage.layers,
        "accelerator_layers": coverage.accelerator_layers,
        "macs": coverage.macs,
        "accelerator_macs": coverage.accelerator_macs,
        "parameters": parameters,
        "float_bytes": 4 * parameters,
    }
    if archive.quantization is not None:
        summary = summarize(graph, archive.quantization)
        totals |= {key: summary[key] for key in ("weight_bytes", "bias_bytes", "activation_peak_bytes")}
    return totals


def _settings(archive: Archive, stage: str) -> dict[str, Any] | None:
    for entry in archive.history:
        if entry.get("stage") == stage:
            settings: dict[str, Any] = entry.get("settings", {})
            return settings
    return None


def _noise(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The outputs together; single layers bear their own figure."""
    noise = report.get("optimize", {}).get("noise")
    return noise and known({"output_db": noise["output_db"], "images": noise["images"]})


def _accuracy(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a target; the counters of clipped integers stand with their layers."""
    measured = report.get("accuracy", {})
    return [
        {"target": target}
        | known({key: value for key, value in measured[target].items() if key != "saturation"})
        for target in _ACCURACY_ORDER
        if target in measured
    ]


def _missing(archive: Archive, sections: Mapping[str, Any], file: str) -> list[dict[str, str]]:
    """What the archive does not hold, and the command that makes an archive which does."""
    held = {key for key, value in sections.items() if value}
    if archive.report.get("optimize", {}).get("activations"):
        held.add("activations")
    if saturation(archive.report):
        held.add("saturation")
    target = "full_precision" if archive.quantization is None else "emulator --saturation"
    optimize, compiled = f"mz optimize --har {file}", f"mz compile --har {file}"
    evaluate = f"mz eval --har {file} --target {target} --har-out {file}"
    wanted = {
        "steps": ("what was requested and applied", optimize),
        "noise": ("noise along the depth", optimize),
        "activations": ("activation histograms", optimize),
        "accuracy": ("accuracy with 95 % intervals", evaluate),
        "saturation": ("integers that the ranges clip", evaluate),
        "memory_plan": ("the memory map over time", compiled),
        "estimate": ("cycles, latency and utilization", compiled),
        "verify": ("the proof of the compiled files", f"{compiled} --verify"),
    }
    if archive.quantization is None:
        del wanted["saturation"]
    return [
        {"section": key, "what": what, "command": command}
        for key, (what, command) in wanted.items()
        if key not in held
    ]
