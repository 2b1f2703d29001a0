"""The grammar of model scripts: a tokenizer and a recursive-descent parser. What the commands mean is not its affair.

    script    = { statement }
    statement = [ targets "=" ] name "(" [ argument { "," argument } [","] ] ")"
    targets   = name { "," name }
    argument  = [ name "=" ] value
    value     = number | string | "True" | "False" | name | "{" glob "}" | "[" [ value { "," value } [","] ] "]"

A name may be scoped (`net/conv1`); `#` starts a comment; white space and line ends separate tokens and mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Union

from mz.errors import UserError


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word: a layer, an algorithm, a mode."""

    text: str
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern over layer names, written `{conv*}`."""

    pattern: str
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)


Value = Union[int, float, bool, str, Name, Glob, list["Value"]]  # noqa: UP007  (X | Y knows no forward reference)


@dataclass(frozen=True, slots=True)
class Statement:
    """One command. `target` holds the names left of `=`, none for most commands; line and column count from 1."""

    line: int
    column: int
    name: str
    target: tuple[str, ...]
    args: tuple[Value, ...]
    kwargs: dict[str, Value]
    source: str = field(default="script", compare=False)

    @property
    def place(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"

    def error(self, message: str, at: Name | Glob | None = None) -> UserError:
        """The UserError that names this statement's place, or that of `at` in it."""
        place = at if at is not None and at.line else self
        return UserError(f"{self.source}:{place.line}:{place.column}: {message}")


_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+|\#[^\n]*)
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w./]))
      | (?P<name>[A-Za-z0-9_][\w./\-]*)
      | (?P<string>"[^"\n]*"|'[^'\n]*')
      | (?P<glob>\{[^{}\n]*\})
      | (?P<mark>[()\[\],=])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, name, string, glob, mark, end
    text: str
    line: int
    column: int


def parse_script(text: str, source_name: str = "script") -> list[Statement]:
    """The statements of a script in order. Raises UserError as `source_name:line:column: ...` at the first fault."""
    return list(_Parser(_tokens(text, source_name), source_name).statements())


def _tokens(text: str, source: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, line, line_start = 0, 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        column = position - line_start + 1
        if not match:
            hint = {
                "{": ", a glob that does not end on its line",
                '"': " that does not end",
                "'": " that does not end",
            }
            found = text[position]
            raise UserError(f"{source}:{line}:{column}: unexpected {found!r}{hint.get(found, '')}")
        kind, found = str(match.lastgroup), match[0]
        if kind != "space":
            tokens.append(_Token(kind, found, line, column))
        if breaks := found.count("\n"):
            line += breaks
            line_start = position + found.rindex("\n") + 1
        position = match.end()
    tokens.append(_Token("end", "", line, position - line_start + 1))
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token], source: str) -> None:
        self.tokens, self.source, self.position = tokens, source, 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def next(self) -> _Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def fail(self, wanted: str) -> NoReturn:
        found = "the end of the script" if self.token.kind == "end" else repr(self.token.text)
        raise UserError(
            f"{self.source}:{self.token.line}:{self.token.column}: {wanted} expected, found {found}"
        )

    def accept(self, mark: str) -> bool:
        if self.token.kind == "mark" and self.token.text == mark:
            self.position += 1
            return True
        return False

    def expect(self, kind: str, wanted: str) -> _Token:
        if self.token.kind != kind:
            self.fail(wanted)
        return self.next()

    def mark(self, mark: str) -> None:
        if not self.accept(mark):
            self.fail(repr(mark))

    def statements(self) -> Iterator[Statement]:
        while self.token.kind != "end":
            yield self.statement()

    def statement(self) -> Statement:
        if (
            self.token.kind == "glob" and not self.token.text[1:-1].strip()
        ):  # `{} = command(...)` names nothing
            self.next()
            self.mark("=")
        first = self.expect("name", "a command")
        names = [first.text]
        while self.accept(","):
            names.append(self.expect("name", "a name").text)
        if self.accept("="):
            command = self.expect("name", "a command")
        elif len(names) > 1:
            self.fail("'='")
        else:
            command, names = first, []
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        self.mark("(")
        while not self.accept(")"):
            self.argument(args, kwargs)
            if not self.accept(","):
                self.mark(")")
                break
        return Statement(
            first.line, first.column, command.text, tuple(names), tuple(args), kwargs, self.source
        )

    def argument(self, args: list[Value], kwargs: dict[str, Value]) -> None:
        token = self.token
        following = self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        if token.kind == "name" and following.kind == "mark" and following.text == "=":
            self.position += 2
            if token.text in kwargs:
                raise UserError(
                    f"{self.source}:{token.line}:{token.column}: argument {token.text!r} is given twice"
                )
            kwargs[token.text] = self.value()
        elif kwargs:
            self.fail("an argument of the form name=value (after the first such)")
        else:
            args.append(self.value())

    def value(self, depth: int = 0) -> Value:
        if depth < 20 and self.accept("["):
            items: list[Value] = []
            while not self.accept("]"):
                items.append(self.value(depth + 1))
                if not self.accept(","):
                    self.mark("]")
                    break
            return items
        token = self.token
        if token.kind in ("mark", "end"):
            self.fail("a value")
        self.next()
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "string":
            return token.text[1:-1]
        if token.kind == "glob":
            return Glob(token.text[1:-1].strip(), token.line, token.column)
        if token.text in ("True", "False"):
            return token.text == "True"
        return Name(token.text, token.line, token.column)
