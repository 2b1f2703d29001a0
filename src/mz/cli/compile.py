"""`mz compile`: the integers as files that run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mz.cli.console import Console
from mz.cli.options import INPUT_PATH, OUTPUT_FOLDER, console_options, hw_arch_option, model_options

if TYPE_CHECKING:
    from mz.flow import ModelRef


@click.command(short_help="Write the integers as files that run.")
@model_options
@hw_arch_option
@click.option(
    "--out", type=OUTPUT_FOLDER, metavar="DIR", help="Folder for the files (default: MODEL_compiled)."
)
@click.option(
    "--emit",
    multiple=True,
    metavar="FORM",
    help="Form to write: onnx, qdq, c; may be repeated (default: all that the target has).",
)
@click.option("--verify", is_flag=True, help="Run the files on images and compare every output integer.")
@click.option(
    "--data-path", type=INPUT_PATH, help="Images to verify on (default: the network's own test set)."
)
@console_options()
def command(
    ref: ModelRef,
    hw_arch: str | None,
    out: Path | None,
    emit: tuple[str, ...],
    verify: bool,
    data_path: Path | None,
    console: Console,
) -> None:
    """Write the quantized network as files that run, and the compiled archive."""
    from mz import flow

    result = flow.compile_model(
        ref,
        hw_arch=hw_arch,
        out=out,
        emit=emit,
        verify=verify,
        data_path=data_path,
        progress=console.progress,
        note=console.note,
    )
    for name, value in _lines(result.summary):
        console.result(f"  {name:32}{value}")
    for name, value in _plan_lines(result.plan):
        console.result(f"  {name:32}{value}")
    if result.verify is not None:
        for name, value in _lines(result.verify):
            console.result(f"  {'verify ' + name:32}{value}")
    for path in result.files:
        console.result(f"saved {path}")
    console.emit(
        {
            "model": result.archive.name,
            "hw_arch": result.archive.hw_arch,
            "har": result.har,
            "files": result.files,
            "summary": result.summary,
            "verify": result.verify,
            **result.plan,
        }
    )


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a reader wants of the plans at a glance; the JSON has all of them."""
    if not plan:
        return
    memory, found = plan["memory_plan"], plan["estimate"]
    arena, bound = memory["arena_bytes"], memory["lower_bound"]
    yield "arena bytes", f"{arena:,} (bound {bound:,}, ratio {arena / max(bound, 1):.3f}){_of(memory, 'ram')}"
    yield "constant bytes", f"{memory['flash_bytes']:,}{_of(memory, 'flash')}"
    if contexts := found["contexts"]:
        buffers = max(context["buffer_bytes"] for context in contexts)
        yield "contexts", f"{len(contexts)}, line buffers of at most {buffers:,} bytes"
    batch = f", {_figure(found['fps_batch'])} at batch {found['batch']}" if len(found["contexts"]) > 1 else ""
    yield "estimated images/s", f"{_figure(found['fps'])}{batch}"
    yield "estimated latency", f"{_figure(found['latency_ms'])} ms"
    yield "estimated utilization", f"{100 * found['utilization']:.1f} %"
    yield "bottleneck", ", ".join(found["bottlenecks"]) or "none"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _of(memory: Mapping[str, Any], kind: str) -> str:
    limit = memory[f"{kind}_limit_bytes"]
    return f", {kind} limit {limit:,}" if limit else ""


def _lines(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The single values of nested mappings by their path in words; lists are for the JSON."""
    for key, value in data.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _lines(value, name + " ")
        elif not isinstance(value, (list, tuple)):
            yield name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
