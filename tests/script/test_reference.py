"""docs/model-script.md says of every published command what becomes of it, as the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mz.script import commands
from mz.script.algorithms import ADAROUND_ARGUMENTS, FINETUNE_ARGUMENTS
from mz.script.changes import OUTPUT_ACTIVATIONS
from mz.script.reference import section
from mz.script.settings import (
    BUDGETS,
    CONVERSIONS,
    EQUALIZATION_METHODS,
    IMPORTANCES,
    POLICIES,
    WEIGHT_CLIPPING_MODES,
)

PAGE = Path(__file__).parents[2] / "docs" / "model-script.md"


def test_the_tables_are_those_of_the_code() -> None:
    assert PAGE.read_text().endswith(section()), (
        "run: python -m mz.script.reference, and put its section last"
    )


@pytest.mark.parametrize(
    "names",
    [
        commands.COMMANDS, commands.CONFIGURATIONS, commands.PRE_QUANTIZATION, commands.POST_QUANTIZATION,
        commands.QUANTIZATION_ARGUMENTS, OUTPUT_ACTIVATIONS, CONVERSIONS, EQUALIZATION_METHODS, POLICIES,
        WEIGHT_CLIPPING_MODES, BUDGETS, IMPORTANCES, FINETUNE_ARGUMENTS, ADAROUND_ARGUMENTS,
    ],
)  # fmt: skip
def test_every_carried_name_is_explained(names) -> None:
    explained = PAGE.read_text().removesuffix(section())
    quoted = re.findall(r"`[^`]+`", re.sub(r"```.*?```", "", explained, flags=re.DOTALL))
    words = set(re.findall(r"\w+", " ".join(quoted)))
    assert not set(names) - words
