"""The grammar: every form of the published scripts is read, and every fault has its line and column."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.errors import UserError
from mz.script import Glob, Name, parse_script


def test_all_forms() -> None:
    text = """# a comment, then two statements on one line
norm1 = normalization([123.675, -116.28], [58.395, .5]) quantization_param({net/conv*_[2-3]}, precision_mode=a8_w4)
a, b = defuse(net/conv1, 2,)
model_optimization_config(calibration, batch_size = 8,
                          calibset_size=64)   # spread over lines
nms_postprocess("../nms, config (1).json", meta_arch='yolo', bbox_decoding_only=True,
 scale=1e-5, none=[], nested=[[1], [a]])
context_0.place(0)
"""
    norm, precision, defuse, config, nms, place = parse_script(text)
    assert (norm.line, norm.column, norm.name, norm.target) == (2, 1, "normalization", ("norm1",))
    assert norm.args == ([123.675, -116.28], [58.395, 0.5])
    assert (precision.line, precision.column) == (2, text.splitlines()[1].index("quantization_param") + 1)
    assert precision.args == (Glob("net/conv*_[2-3]"),)
    assert precision.kwargs == {"precision_mode": Name("a8_w4")}
    assert defuse.target == ("a", "b")
    assert defuse.args == (Name("net/conv1"), 2)
    assert config.kwargs == {"batch_size": 8, "calibset_size": 64}
    assert nms.args == ("../nms, config (1).json",)
    assert nms.kwargs == {
        "meta_arch": "yolo",
        "bbox_decoding_only": True,
        "scale": 1e-5,
        "none": [],
        "nested": [[1], [Name("a")]],
    }
    assert (place.line, place.name) == (8, "context_0.place")
    assert isinstance(config.kwargs["batch_size"], int)
    assert isinstance(nms.kwargs["scale"], float)


def test_nothing_and_line_ends() -> None:
    assert parse_script("") == parse_script("# only this") == parse_script("\ufeff \r\n") == []
    assert parse_script("f(1)\r\ng(2)")[1].line == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f(", "s:1:3: a value expected, found the end of the script"),
        ("f(1", "s:1:4: ')' expected, found the end of the script"),
        ("f(1 2)", "s:1:5: ')' expected, found '2'"),
        ("f\ng(1)", "s:2:1: '(' expected, found 'g'"),
        ("f()\n  = g()", "s:2:3: a command expected, found '='"),
        ("a, b f()", "s:1:6: '=' expected, found 'f'"),
        ("a = 5.0", "s:1:5: a command expected, found '5.0'"),
        ("f(a=)", "s:1:5: a value expected, found ')'"),
        ("f(a=1, a=2)", "s:1:8: argument 'a' is given twice"),
        ("f(a=1, 2)", "s:1:8: an argument of the form name=value (after the first such) expected, found '2'"),
        ("f(,)", "s:1:3: a value expected, found ','"),
        ("f([1, 2)", "s:1:8: ']' expected, found ')'"),
        ("f({conv*)", "s:1:3: unexpected '{', a glob that does not end on its line"),
        ('f("abc)', "s:1:3: unexpected '\"' that does not end"),
        ("f(1);\n", "s:1:5: unexpected ';'"),
        ("\n\n  f(@)", "s:3:5: unexpected '@'"),
        ("f(" + "[" * 5000, "s:1:23: a value expected, found '['"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_script(text, "s")
    assert str(caught.value) == message


@given(st.text("abf12.(),=[]{}*#\"'/- \n\t_\u00e9@", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        parse_script(text)
