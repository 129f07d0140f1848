"""Columns derived from others, such as `FLOP/(6*N)`: a formula is parsed and walked, never evaluated as Python."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from geoladder.errors import GeoladderError

Array = np.ndarray
OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "log": np.log,
    "log10": np.log10,
    "exp": np.exp,
    "sqrt": np.sqrt,
}
LONGEST = 500
"""Characters of a formula; a longer one is a mistake, and a very long one would exhaust the parser."""
LARGEST = 1e308
DEEPEST = 50
"""Levels of a formula that are walked."""


def column(table: pd.DataFrame, text: str) -> "pd.Series[Any]":
    """A column by its name, or a formula of columns: numbers, + - * / **, brackets, log, log10, exp and sqrt.

    A name that is no Python name stands in `backticks`. Raises GeoladderError for anything else.
    """
    if text in table:
        return table[text]
    names: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        names[f"_column{len(names)}"] = match[1]
        return f" _column{len(names) - 1} "

    tree = _parse(re.sub(r"`([^`]+)`", placeholder, text), text)
    variables = {
        node.id: names.get(node.id, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id not in FUNCTIONS
    }
    if absent := sorted(set(variables.values()) - set(table.columns)):
        raise GeoladderError(
            f"no column {', '.join(absent)}; there are: {', '.join(map(str, table.columns))}"
        )
    values = {
        name: pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        for name, column in variables.items()
    }
    return pd.Series(
        np.broadcast_to(_evaluated(tree, values, text), len(table)), index=table.index, name=text
    )


def evaluate(text: str, values: Mapping[str, Array]) -> Array:
    """A formula of named arrays; raises GeoladderError where it is none, or names another variable."""
    tree = _parse(text, text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in (*FUNCTIONS, *values):
            raise GeoladderError(f"'{text}': no variable {node.id}; there are: {', '.join(values)}")
    return np.asarray(_evaluated(tree, values, text), dtype=np.float64)


def _parse(text: str, shown: str) -> ast.expr:
    if len(text) > LONGEST:
        raise GeoladderError(f"a formula of {len(text)} characters; at most {LONGEST} are read")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise GeoladderError(
            f"'{shown}' is neither a column nor a formula of columns, such as 'FLOP/(6*N)'; names with spaces stand "
            "in `backticks`"
        ) from None


def _evaluated(node: ast.expr, values: Mapping[str, Array], text: str, depth: int = 0) -> Any:  # noqa: ANN401
    """The value of a formula; every kind of node that is not named here is refused."""
    if depth > DEEPEST:
        raise GeoladderError(f"'{text}' is nested more than {DEEPEST} deep")

    def part(inner: ast.expr) -> Any:  # noqa: ANN401
        return _evaluated(inner, values, text, depth + 1)

    with np.errstate(all="ignore"):  # what is no number is refused where it is read
        match node:
            case ast.Constant(value=int() | float() as number) if (
                not isinstance(number, bool) and number < LARGEST
            ):
                return np.float64(number)
            case ast.Name(id=name):
                return values[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](part(left), part(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                return OPERATORS[type(op)](part(operand))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](part(argument))
    raise GeoladderError(
        f"'{text}': {ast.unparse(node)} is not allowed; a formula has numbers, columns, + - * / **, brackets and "
        f"{', '.join(FUNCTIONS)}"
    )
