"""The stages, and what each needs: parse -> optimize -> compile, and evaluate.

Each stage is one file and one function; it runs whatever earlier stages its input lacks. Nothing here prints.
"""

from __future__ import annotations

from mz.flow.analyze import analyze
from mz.flow.catalogue import info, list_models
from mz.flow.compile import compile_model
from mz.flow.diff import DiffResult, diff
from mz.flow.evaluate import evaluate
from mz.flow.init import init
from mz.flow.networks import coverage_line, parse
from mz.flow.optimize import optimize, recipe_in_force
from mz.flow.options import (
    AnalyzeResult,
    CompileResult,
    EvalOptions,
    EvalResult,
    InputOptions,
    ModelRef,
    OptimizeOptions,
    OptimizeResult,
    Progress,
    SearchGoal,
    SearchResult,
    Step,
    Tried,
)
from mz.flow.profile import profile, profile_file
from mz.flow.search import search

__all__ = [
    "AnalyzeResult",
    "CompileResult",
    "DiffResult",
    "EvalOptions",
    "EvalResult",
    "InputOptions",
    "ModelRef",
    "OptimizeOptions",
    "OptimizeResult",
    "Progress",
    "SearchGoal",
    "SearchResult",
    "Step",
    "Tried",
    "analyze",
    "compile_model",
    "coverage_line",
    "diff",
    "evaluate",
    "info",
    "init",
    "list_models",
    "optimize",
    "parse",
    "profile",
    "profile_file",
    "recipe_in_force",
    "search",
]
