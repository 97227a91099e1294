"""The types of command-line arguments: a text becomes a value, or a message that says what was expected."""

from __future__ import annotations

import argparse
from pathlib import Path


def seconds(text: str) -> float:
    """A duration above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def hours(text: str) -> float:
    """A number of hours, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of hours, got {text!r}")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text[:9])


def row(text: str) -> int:
    """A row of the table, from 0."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a row of the table, 0 or more, got {text!r}")
    return int(text[:18])


def assignment(text: str) -> str:
    """KEY=VALUE, as it is."""
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return text


def folder(text: str) -> Path:
    """A folder that exists or can be made: no part of the path is a file."""
    path = Path(text)
    try:
        files = [part for part in (path, *path.parents) if part.exists() and not part.is_dir()]
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be a folder: {error}") from None
    if files:
        raise argparse.ArgumentTypeError(f"{str(files[0])!r} is a file, expected a folder")
    return path
