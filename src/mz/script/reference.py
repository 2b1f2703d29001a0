"""The last section of docs/model-script.md, written from the tables that decide: `python -m mz.script.reference`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from mz.script import commands, published

_TITLE = "## Every published command"


def section() -> str:
    """Markdown: what becomes of every command, algorithm and argument of the published scripts."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _TITLE
    yield ""
    yield "Carried: done as asked, see above. Noted: read, and written down in the archive's report with the reason; it"
    yield "asks for nothing that could be missed here. Refused: an error with line and column."
    yield "(`python -m mz.script.reference` prints this section.)"
    yield from _table("command", commands.COMMANDS, published.NOTED, published.REFUSED)
    yield from _table(
        "first argument of `model_optimization_config`",
        commands.CONFIGURATIONS,
        published.NOTED_CONFIGURATIONS,
        {},
    )
    yield from _table(
        "algorithm of `pre_quantization_optimization` and `post_quantization_optimization`",
        [*commands.PRE_QUANTIZATION, *commands.POST_QUANTIZATION],
        published.NOTED_ALGORITHMS,
        published.REFUSED_ALGORITHMS,
    )
    yield from _table(
        "argument of `quantization_param`",
        commands.QUANTIZATION_ARGUMENTS,
        published.NOTED_QUANTIZATION,
        published.REFUSED_QUANTIZATION,
    )
    yield from _table("layer that only the published flow has", (), _foreign_layers(), {})


def _foreign_layers() -> dict[str, str]:
    removed = {f"remove_node({name})": reason for name, reason in published.FOREIGN_LAYERS.items()}
    return {f"quantization_param({published.OUTPUT_LAYER}<n>, ...)": published.NOTED_OUTPUT_LAYER} | removed


def _table(
    what: str, carried: Collection[str], noted: Mapping[str, str], refused: Mapping[str, str]
) -> Iterator[str]:
    yield from ("", f"| {what} | | why |", "|---|---|---|")
    if carried:
        yield f"| {_names(carried)} | carried | |"
    for verdict, reasons in (("noted", noted), ("refused", refused)):
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name, given in reasons.items() if given == reason]
            yield f"| {_names(names)} | {verdict} | {reason} |"


def _names(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(section(), end="")
