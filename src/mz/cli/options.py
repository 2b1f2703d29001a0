"""The arguments and options that several commands share, and what they make of them."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from mz.cli.console import VERBOSE, Console

F = TypeVar("F", bound=Callable[..., Any])


class OutputFile(click.Path):
    """A file to be written, or `-`. Its folder must be there: commands may work for minutes before they write."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)
        folder = Path(path).parent
        if not os.access(folder, os.W_OK):
            what = "is not writable" if folder.is_dir() else "does not exist"
            self.fail(f"cannot write {path}: folder {str(folder)!r} {what}", param, ctx)
        return path


INPUT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
INPUT_PATH = click.Path(exists=True, path_type=Path)
OUTPUT_FILE = OutputFile(dir_okay=False, path_type=Path)
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
        offline: bool,
        task: str | None,
        decode: str | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        resize: str | None,
        input_shape: tuple[int, ...] | None,
        **rest: Any,
    ) -> Any:
        if model is None and ckpt is None and yaml is None and har is None:
            raise click.UsageError("name a MODEL of the zoo, or give --ckpt, --yaml or --har")
        from mz.flow import InputOptions, ModelRef

        images = InputOptions(task, decode, mean, std, resize, input_shape)
        if images != InputOptions() and (model or yaml or har):
            raise click.UsageError(
                "--task, --decode, --mean, --std, --resize and --input-shape describe an ONNX file that --ckpt names "
                "alone; MODEL, --yaml and --har say all that themselves"
            )
        ref = ModelRef(
            model=model,
            ckpt=ckpt,
            yaml=yaml,
            har=har and archive_in(har),
            start_nodes=node_names(start_node_names),
            end_nodes=node_names(end_node_names),
            offline=offline,
            images=images,
        )
        return function(*args, ref=ref, **rest)

    for decorate in (
        image_options,
        offline_option,
        node_options,
        click.option(
            "--har", type=INPUT_PATH, help="Go on from this archive, or from that in this compiled folder."
        ),
        click.option("--yaml", type=INPUT_FILE, help="Network configuration of your own."),
        click.option("--ckpt", type=INPUT_FILE, help="ONNX file to take instead of the zoo's."),
        click.argument("model", type=NetworkName(), required=False),
    ):
        with_ref = decorate(with_ref)
    return with_ref  # type: ignore[return-value]


def archive_in(path: Path) -> Path:
    """The archive itself, or the one that `mz compile` wrote into the folder `path`."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*_compiled.har"))
    if len(found) != 1:
        raise click.UsageError(
            f"{path}: a folder with {len(found)} compiled archives: name an archive by --har"
        )
    return found[0]


class Numbers(click.ParamType):
    """Numbers with commas between them, as a tuple."""

    name = "number[,number]"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part) for part in str(value).replace(" ", ",").split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is no list of numbers with commas between them", param, ctx)


class Duration(click.ParamType):
    """A time as 90s, 30m or 2h, in seconds."""

    name = "90s|30m|2h"
    _seconds: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(value).strip())
        if not match or float(match[1]) == 0:
            self.fail(f"{value!r} is no time such as 90s, 30m or 2h", param, ctx)
        return float(match[1]) * self._seconds[match[2]]


def image_options(function: F) -> F:
    """What an ONNX file does not say of its images; each None when it is not given."""
    for decorate in (
        click.option(
            "--input-shape", type=Numbers(int), help="Its input's shape where the file leaves it open."
        ),
        click.option(
            "--resize",
            type=click.Choice(["crop", "stretch", "fit", "none"]),
            help="How an image comes to the network's size.",
        ),
        click.option("--std", type=Numbers(float), help="... then divided by these."),
        click.option(
            "--mean", type=Numbers(float), help="Subtracted from pixels 0..255, one or one a channel."
        ),
        click.option("--decode", type=click.Choice(["gray", "rgb", "bgr"]), help="Its channels."),
        click.option("--task", help="With --ckpt alone: the network's task."),
    ):
        function = decorate(function)
    return function


def offline_option(function: F) -> F:
    """`--offline`."""
    return click.option("--offline", is_flag=True, help="Never touch the network (as does MZ_OFFLINE=1).")(
        function
    )


def node_options(function: F) -> F:
    """`--start-node-names` and `--end-node-names`, each given any number of times; `node_names` takes them apart."""
    nodes = functools.partial(click.option, multiple=True, metavar="NAME[,NAME]")
    for decorate in (
        nodes("--end-node-names", help="Cut the ONNX graph after these nodes."),
        nodes("--start-node-names", help="Cut the ONNX graph before these nodes."),
    ):
        function = decorate(function)
    return function


def node_names(values: tuple[str, ...]) -> tuple[str, ...]:
    """The names that an option of `node_options` was given."""
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
            file = OutputFile(dir_okay=False, allow_dash=True)
            decorators.append(click.option("--json", "json_to", type=file, metavar="FILE|-", help=text))
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
