"""A profile as text for a terminal: the figures of the page, every count in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mz.report.tables import metric_name, table

_YES = {True: "yes", False: "no"}


def text(profile: Mapping[str, Any]) -> str:
    """All sections that the profile of `mz.flow.profile` has, each behind an empty line."""
    parts = [
        _heading(profile["network"]),
        _totals(profile),
        *_accuracy(profile.get("accuracy", [])),
        _layers(profile["layers"]),
        _contexts(profile.get("estimate", {}).get("contexts", [])),
        _memory(profile.get("memory_plan")),
        _steps(profile.get("steps", [])),
        _files(profile),
        _missing(profile["missing"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _heading(network: Mapping[str, Any]) -> str:
    precisions = ", ".join(f"{count} x {precision}" for precision, count in network["precision"].items())
    return " | ".join(
        part
        for part in (network["name"], network["state"], network["hw_arch"], network["task"], precisions)
        if part
    )


def _totals(profile: Mapping[str, Any]) -> str:
    totals, noise = profile["totals"], profile.get("noise")
    names = {
        "layers": "layers",
        "accelerator_layers": "layers on the accelerator",
        "macs": "MACs an image",
        "accelerator_macs": "MACs on the accelerator",
        "parameters": "parameters",
        "float_bytes": "float bytes",
        "weight_bytes": "weight bytes",
        "bias_bytes": "bias bytes",
        "activation_peak_bytes": "activation peak bytes",
    }
    lines = [(name, f"{totals[key]:,}") for key, name in names.items() if key in totals]
    if noise and "output_db" in noise:
        lines.append(("output SNR", f"{noise['output_db']:.1f} dB on {noise['images']} calibration images"))
    lines += [
        (key.replace("_", " "), _figure(value))
        for key, value in profile.get("estimate", {}).items()
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
    ]
    return "\n".join(f"  {name:27}{value}" for name, value in lines)


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def _accuracy(measured: list[Mapping[str, Any]]) -> Iterator[str]:
    names = {"full_precision": "full precision", "fp_optimized": "optimized float"}
    for entry in measured:
        name = names.get(entry["target"], f"integers, {entry['precision']}")
        rows = []
        for metric, value in entry["metrics"].items():
            baseline = entry.get("baseline")
            if baseline and metric in baseline["metrics"]:
                bounds = baseline["ci95"].get(metric)
                rows.append(
                    [
                        metric_name(metric),
                        "full precision",
                        f"{baseline['metrics'][metric]:.2f}",
                        _interval(bounds),
                    ]
                )
            rows.append([metric_name(metric), name, f"{value:.2f}", _interval(entry["ci95"].get(metric))])
            loss = entry.get("degradation", {}).get(metric, {})
            if "value" in loss:
                bounds = (loss.get("low"), loss.get("high"))
                rows.append([metric_name(metric), "degradation", f"{loss['value']:.2f}", _interval(bounds)])
        closeness = [f"{entry['count']:,} images of {entry['dataset']}"]
        if (agreement := entry.get("agreement")) is not None:
            closeness.append(f"agreement with float {agreement:.2f} %")
        if (snr_db := entry.get("snr_db")) is not None:
            closeness.append(f"output SNR {snr_db:.1f} dB")
        lines = [table(["metric", "", "value", "95 % interval"], rows, "<<>>")] if rows else []
        yield "\n".join([*lines, "  " + ", ".join(closeness)])


def _interval(bounds: Any) -> str:
    low, high = bounds or (None, None)
    return "-" if low is None or high is None else f"{low:.2f} .. {high:.2f}"


Column = tuple[str, str, Callable[[Mapping[str, Any]], str | None]]


def _layers(layers: list[Mapping[str, Any]]) -> str:
    """The columns that any layer has a figure for."""
    columns: list[Column] = [
        ("#", ">", lambda row: str(row["index"])),
        ("layer", "<", lambda row: row["name"]),
        ("kind", "<", lambda row: row["kind"]),
        ("output", ">", lambda row: "x".join(map(str, row["shape"]))),
        ("bits", "<", _bits),
        ("MACs", ">", lambda row: f"{row['macs']:,}" if row["macs"] else None),
        ("weight bytes", ">", _count_of("weight_bytes")),
        ("output bytes", ">", _count_of("activation_bytes")),
        ("SNR dB", ">", lambda row: f"{row['snr_db']:.1f}" if row.get("snr_db") is not None else None),
        ("clipped %", ">", _clipped),
        ("cycles", ">", _count_of("cycles")),
        (
            "used %",
            ">",
            lambda row: f"{100 * row['utilization']:.1f}" if row.get("utilization") is not None else None,
        ),
    ]
    kept = [column for column in columns if any(column[2](row) for row in layers)]
    rows = [[of(row) or "" for _, _, of in kept] for row in layers]
    return table([name for name, _, _ in kept], rows, "".join(side for _, side, _ in kept))


def _count_of(key: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda row: f"{row[key]:,}" if row.get(key) is not None else None


def _bits(row: Mapping[str, Any]) -> str:
    if "activation_bits" not in row:
        return "host, float" if row["host"] else "float"
    weight_bits = row.get("weight_bits")
    return f"a{row['activation_bits']}" + (f"_w{weight_bits}" if weight_bits else "")


def _clipped(row: Mapping[str, Any]) -> str | None:
    counted = row.get("saturation")
    if not counted or not counted["total"]:
        return None
    return f"{100 * (counted['low'] + counted['high']) / counted['total']:.2g}"


def _contexts(contexts: list[Mapping[str, Any]]) -> str:
    keys = ("layers", "constant_bytes", "buffer_bytes", "load_cycles", "interval_cycles", "latency_cycles")
    rows = [
        [str(number), *(f"{context[key]:,}" for key in keys), context["bound"]]
        for number, context in enumerate(contexts)
    ]
    headings = ["context", *(key.replace("_", " ") for key in keys), "bound by"]
    return table(headings, rows, ">" * (1 + len(keys))) if rows else ""


def _memory(plan: Mapping[str, Any] | None) -> str:
    if not plan:
        return ""
    rows = [
        [row["name"], f"{row['offset']:,}", f"{row['bytes']:,}", f"{row['first_step']} .. {row['last_step']}"]
        for row in plan["tensors"]
    ]
    figures = ", ".join(
        f"{key.replace('_', ' ')} {_figure(value)}"
        for key, value in plan.items()
        if isinstance(value, (int, str))
    )
    return f"  {figures}\n" + table(["tensor", "offset", "bytes", "steps"], rows, "<>>>")


def _steps(steps: list[Mapping[str, Any]]) -> str:
    rows = [[step["name"], _YES[step["requested"]], _YES[step["applied"]], step["note"]] for step in steps]
    return table(["step", "requested", "applied", "note"], rows) if rows else ""


def _files(profile: Mapping[str, Any]) -> str:
    lines = [f"  {file['path']}  {file['bytes']:,} bytes" for file in profile.get("artefacts", [])]
    if verdict := profile.get("verify"):
        lines += [f"  {form}: {_verdict(found)}" for form, found in verdict.get("forms", {}).items()]
        lines.append(
            f"  {verdict['differing']:,} of {verdict['integers']:,} output integers differ from the "
            f"{verdict['against']}'s, over {verdict['images']:,} images"
        )
    return "\n".join(lines)


def _verdict(found: Mapping[str, Any]) -> str:
    figures = ", ".join(
        f"{key.replace('_', ' ')} {_figure(found[key])}"
        for key in found
        if key != "exact" and found[key] is not None
    )
    return ("exact, " if found["exact"] else "own rounding, ") + figures


def _missing(missing: list[Mapping[str, str]]) -> str:
    rows = [[line["what"], line["command"]] for line in missing]
    return table(["not in this archive", "added by"], rows) if rows else ""
