"""The group `mz`: its subcommands, loaded when they are called, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

import mz
from mz.cli.console import VERBOSE
from mz.errors import UserError

EXIT_OURS = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "parse": "mz.cli.parse",
    "optimize": "mz.cli.optimize",
    "eval": "mz.cli.evaluate",
    "analyze": "mz.cli.analyze",
    "compile": "mz.cli.compile",
    "profile": "mz.cli.profile",
    "info": "mz.cli.info",
    "list": "mz.cli.list",
    "init": "mz.cli.init",
    "fetch": "mz.cli.fetch",
    "diff": "mz.cli.diff",
    "har": "mz.cli.har",
}
"""Name -> module whose `command` it is, in the order of the help."""


class Group(click.Group):
    """A click group that imports a subcommand on demand, and whose `main` keeps the exit codes of mz."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Shows the traceback of what goes wrong, where the user asked for it, while the command's context is there."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            debugging = os.environ.get("MZ_DEBUG", "") not in ("", "0")
            if debugging or (ctx.meta.get(VERBOSE) and not isinstance(error, UserError)):
                import traceback

                traceback.print_exc()
            raise

    def main(self, args: Sequence[str] | None = None, *pargs: Any, **options: Any) -> Any:
        """Runs and exits: 0, 2 for the user's error, 1 for ours, 130 after Ctrl-C, or what the command asks for."""
        options |= {"standalone_mode": False, "prog_name": "mz"}
        try:
            code = super().main(args, *pargs, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(EXIT_USER)
        except click.UsageError as error:
            where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            _fail(f"{error.format_message()}{where}")
        except click.ClickException as error:
            _fail(error.format_message())
        except UserError as error:
            _fail(str(error))
        except (click.Abort, KeyboardInterrupt):
            click.echo("mz: interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:  # the last resort: whatever arrives here is a defect of mz
            _report_defect(error)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    click.echo(f"mz: error: {' '.join(message.split())}", err=True)
    sys.exit(EXIT_USER)


def _report_defect(error: Exception) -> None:
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    click.echo(f"mz: internal error: {summary}", err=True)
    click.echo(
        f"mz: this is a defect of mz {mz.__version__}, not of your input; please report it with the traceback that "
        "MZ_DEBUG=1 shows",
        err=True,
    )
    sys.exit(EXIT_OURS)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(mz.__version__, prog_name="mz")
def cli() -> None:
    """A model zoo for integer accelerators: from a trained network to integers that are proven on real images.

    \b
      mz eval     resnet8_fashion                       accuracy in full precision
      mz optimize resnet8_fashion                       -> resnet8_fashion.har
      mz eval     resnet8_fashion --target emulator --har resnet8_fashion.har
      mz compile  resnet8_fashion --har resnet8_fashion.har
    """
