"""Derived columns: formulas over columns, as `[columns]` defines them. Arithmetic only, never `eval`."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # of floats: no endless integers, no complex numbers
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
DEEPEST = 200  # operations inside each other
SEVERAL = ("max", "min")  # functions of two or more numbers; the others take one


class Expression:
    """A formula such as `optimizer.steps * optimizer.batch_size / data.data_budget`.

    Raises:
        ValueError: it is no formula of numbers, columns, + - * / ** and the functions of `FUNCTIONS`.
    """

    def __init__(self, text: str):
        self.text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Python finds odd in other code is refused here anyway
                self._tree = ast.parse(text.strip(), mode="eval").body
                self.names = sorted(set(self._columns(self._tree)))
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"{text[:60]!r} is no formula") from None

    def _columns(self, node: ast.AST, depth: int = 0) -> list[str]:
        if depth > DEEPEST:
            raise RecursionError
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return []
        if isinstance(node, (ast.Name, ast.Attribute)):
            return [_dotted(node)]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return self._columns(node.left, depth + 1) + self._columns(node.right, depth + 1)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return self._columns(node.operand, depth + 1)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            _check_call(node.func.id, len(node.args))
            return [name for argument in node.args for name in self._columns(argument, depth + 1)]
        raise ValueError(
            f"{ast.unparse(node)!r} is not allowed in a formula: numbers, columns, + - * / ** and functions are"
        )

    def __call__(self, row: Mapping[str, Any]) -> float | None:
        """The value in a row; None where a column is missing there, nan where the arithmetic has no value."""
        try:
            return float(self._value(self._tree, row))
        except (KeyError, TypeError):
            return None
        except (ArithmeticError, ValueError):
            return math.nan

    def _value(self, node: ast.AST, row: Mapping[str, Any]) -> float:
        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]
        if isinstance(node, (ast.Name, ast.Attribute)):
            value = row[_dotted(node)]
            if isinstance(value, str):
                raise TypeError("text has no value in a formula")
            return float(value)
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self._value(node.left, row), self._value(node.right, row))
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](self._value(node.operand, row))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return FUNCTIONS[node.func.id](*(self._value(argument, row) for argument in node.args))
        raise TypeError(f"{type(node).__name__} passed the check of a formula")


def _check_call(function: str, arguments: int) -> None:
    if function not in FUNCTIONS:
        raise ValueError(f"{function!r} is no function here; there are {', '.join(FUNCTIONS)}")
    if (arguments < 2) if function in SEVERAL else (arguments != 1):
        raise ValueError(f"{function} takes {'two or more numbers' if function in SEVERAL else 'one number'}")


def _dotted(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ValueError(f"{ast.unparse(node)!r} is no column")
    return ".".join([node.id, *reversed(parts)])
