"""The norms that specs and columns name: checked without torch, which a spec that is only read does not load."""

from __future__ import annotations

import math
from collections.abc import Sequence

EXPONENTS = {"l_1": 1.0, "l_2": 2.0, "l_inf": math.inf}


def exponent(norm: str | float) -> float | None:
    """p of an l_p norm; None for "spectral".

    Raises:
        ValueError: there is no such norm.
    """
    if norm == "spectral":
        return None
    if isinstance(norm, str):
        if norm not in EXPONENTS:
            raise ValueError(f'norm = {norm!r}: expected "l_1", "l_2", "l_inf", "spectral" or a number p >= 1')
        return EXPONENTS[norm]
    if not norm >= 1:
        raise ValueError(f"norm = {norm!r}: l_p is a norm for p >= 1 alone")
    return float(norm)


def name_of(norm: str | float) -> str:
    """`l_1`, `l_2`, `l_inf`, `spectral`, `l_3`, `l_1_5`: what a norm is called in columns."""
    p = exponent(norm)
    if p is None:
        return "spectral"
    return "l_inf" if p == math.inf else f"l_{p:g}".replace(".", "_")


def check_geometry(norm: str | float, scope: str, kink: str = "none", ball: Sequence[float] = ()) -> None:
    """Refuse what is no norm of a network.

    Raises:
        ValueError: with what is wrong.
    """
    p = exponent(norm)
    if p is None and scope == "flat":
        raise ValueError('norm = "spectral" is of one matrix: give scope "max", "l_2" or "sum" over the layers')
    if ball and scope == "flat":
        raise ValueError('ball: with scope = "flat" there are no blocks')
    if not all(0 < radius < math.inf for radius in ball):
        raise ValueError(f"ball = {list(ball)}: expected sizes above 0")
    if kink == "clarke" and not (p == 1 and scope == "flat"):
        raise ValueError('kink = "clarke" is for norm = "l_1" with scope = "flat"')


def geometry_of(name: str | float) -> tuple[str | float, str]:
    """(norm, scope) of a norm of a whole network: "l_2", 3.0, "spectral" (the largest of the layers), "max_l_1", ...

    Raises:
        ValueError: there is no such norm.
    """
    for scope in ("max", "l_2", "sum"):
        if isinstance(name, str) and name.startswith(f"{scope}_"):
            block = name.removeprefix(f"{scope}_")
            exponent(block)
            return block, scope
    exponent(name)
    return name, "max" if name == "spectral" else "flat"


def column_of(name: str | float) -> str:
    """What a norm of a whole network is called in columns: `l_1`, `l_3`, `spectral`, `max_l_1`."""
    norm, scope = geometry_of(name)
    plain = scope == "flat" or (norm, scope) == ("spectral", "max")
    return name_of(norm) if plain else f"{scope}_{name_of(norm)}"


def flat_exponent(name: str | float) -> float:
    """p of an l_p norm of all weights.

    Raises:
        ValueError: it is another norm.
    """
    p = exponent(name)
    if p is None:
        raise ValueError(f"norm = {name!r}: expected an l_p norm")
    return p
