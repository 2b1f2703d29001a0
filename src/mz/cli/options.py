"""The arguments and options that several commands share, and what they make of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mz.cli.console import VERBOSE, Console

F = TypeVar("F", bound=Callable[..., Any])

INPUT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
INPUT_PATH = click.Path(exists=True, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)
OUTPUT_FOLDER = click.Path(file_okay=False, path_type=Path)
COUNT = click.IntRange(min=1)


class NetworkName(click.ParamType):
    """The name of a network of the zoo; the shell completes it."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from mz.zoo.locate import network_names

        return [CompletionItem(name) for name in network_names() if name.startswith(incomplete)]


class HwArchName(click.ParamType):
    """The name of a target; the shell completes it."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from mz.zoo.locate import hw_arch_names

        return [CompletionItem(name) for name in hw_arch_names() if name.startswith(incomplete)]


def model_options(function: F) -> F:
    """MODEL and the files that a network may come from; the command gets them as one `ref`."""

    @functools.wraps(function)
    def with_ref(
        *args: Any,
        model: str | None,
        ckpt: Path | None,
        yaml: Path | None,
        har: Path | None,
        start_node_names: tuple[str, ...],
        end_node_names: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        if model is None and ckpt is None and yaml is None and har is None:
            raise click.UsageError("name a MODEL of the zoo, or give --ckpt, --yaml or --har")
        from mz.flow import ModelRef

        ref = ModelRef(
            model=model,
            ckpt=ckpt,
            yaml=yaml,
            har=har,
            start_nodes=_names(start_node_names),
            end_nodes=_names(end_node_names),
        )
        return function(*args, ref=ref, **rest)

    nodes = functools.partial(click.option, multiple=True, metavar="NAME[,NAME]")
    for decorate in (
        nodes("--end-node-names", help="Cut the ONNX graph after these nodes."),
        nodes("--start-node-names", help="Cut the ONNX graph before these nodes."),
        click.option("--har", type=INPUT_FILE, help="Go on from this archive."),
        click.option("--yaml", type=INPUT_FILE, help="Network configuration of your own."),
        click.option("--ckpt", type=INPUT_FILE, help="ONNX file to take instead of the zoo's."),
        click.argument("model", type=NetworkName(), required=False),
    ):
        with_ref = decorate(with_ref)
    return with_ref  # type: ignore[return-value]


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for value in values for name in value.replace(",", " ").split())


def console_options(json: bool = True) -> Callable[[F], F]:
    """`-v`, `--quiet` and, where there is something to write, `--json`; the command gets one `console`."""

    def decorator(function: F) -> F:
        @functools.wraps(function)
        def with_console(
            *args: Any, verbose: bool, quiet: bool, json_to: str | None = None, **rest: Any
        ) -> Any:
            if verbose and quiet:
                raise click.UsageError("--verbose and --quiet exclude each other")
            click.get_current_context().meta[VERBOSE] = verbose
            return function(*args, console=Console(quiet=quiet, verbose=verbose, json_to=json_to), **rest)

        decorators = [
            click.option("--quiet", "-q", is_flag=True, help="Results and errors only."),
            click.option("--verbose", "-v", is_flag=True, help="Say more; show tracebacks."),
        ]
        if json:
            text = "Write the result as JSON to a file, or - for stdout."
            decorators.append(click.option("--json", "json_to", metavar="FILE|-", help=text))
        for decorate in decorators:
            with_console = decorate(with_console)
        return with_console  # type: ignore[return-value]

    return decorator


def hw_arch_option(function: F) -> F:
    """`--hw-arch`, None when it is not given."""
    return click.option("--hw-arch", type=HwArchName(), help="Target, as in cfg/hw_archs (default: mz8).")(
        function
    )


def har_path(har_out: Path | None, name: str) -> Path:
    """Where a command saves its archive: the path asked for, else `<name>.har` in the current folder."""
    return har_out if har_out is not None else Path(f"{name}.har")
