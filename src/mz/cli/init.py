"""`mz init`: a configuration for a network that is in no zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mz.cli.console import Console
from mz.cli.options import INPUT_FILE, OUTPUT_FILE, console_options, image_options, node_names, node_options


@click.command(short_help="Describe a network of your own in a YAML file.")
@click.option("--ckpt", type=INPUT_FILE, required=True, help="The network's ONNX file.")
@click.option("--out", type=OUTPUT_FILE, help="Where to write the YAML (default: NAME.yaml).")
@click.option("--overwrite", is_flag=True, help="Replace a YAML that is there already.")
@node_options
@image_options
@console_options(json=False)
def command(
    ckpt: Path,
    out: Path | None,
    overwrite: bool,
    start_node_names: tuple[str, ...],
    end_node_names: tuple[str, ...],
    console: Console,
    **images: Any,
) -> None:
    """Write a YAML for a network that is in no zoo.

    Its input's name, size and channels are read from the ONNX file. What is neither there nor given by an option is
    assumed, and said.
    """
    from mz import flow

    ref = flow.ModelRef(
        ckpt=ckpt,
        start_nodes=node_names(start_node_names),
        end_nodes=node_names(end_node_names),
        images=flow.InputOptions(**images),
    )
    path, described = flow.init(ref, out, overwrite=overwrite)
    for line in described.assumed:
        console.note(line)
    console.result(f"saved {path}")
    console.note(
        f"next: mz optimize --yaml {path} --calib-path IMAGES, then mz eval, each with any folder of images"
    )
