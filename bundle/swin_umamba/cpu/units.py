"""Cutting rows and columns into units of work, each with scratch memory of its own while it runs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from .threads import run


def parts(count: int, step: int) -> list[tuple[int, int]]:
    """Cut `count` rows into parts (first, last) of `step` and a rest."""
    return [(first, min(first + step, count)) for first in range(0, count, step)]


def columns_of(count: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Cover `count` columns, at least the narrowest width, by (first, width), widest first; the last may overlap."""
    columns = []
    first = 0
    while first < count:
        width = min((w for w in widths if w >= count - first), default=widths[0])
        if width > count:  # between two widths: several of the narrower one
            width = widths[-1]
        columns.append((min(first, count - width), width))
        first += width
    return columns


def share(call: Callable[[Any, list[np.ndarray]], object], units: Iterable[Any], sizes: list[int]) -> None:
    """Call a function with each unit and arrays of these sizes that no other call uses at the time."""
    spare: deque[list[np.ndarray]] = deque()

    def work(unit: Any) -> None:
        arrays = spare.pop() if spare else [numbers(size) for size in sizes]
        call(unit, arrays)
        spare.append(arrays)

    run(work, units)


def numbers(count: int) -> np.ndarray:
    """Return memory for so many numbers in float32."""
    return torch.empty(count, dtype=torch.float32, device="cpu").numpy()  # PyTorch's begins where a vector may


def room_of(rows: int, together: int) -> int:
    """Return how many rows products of `together` rows read and write for so many."""
    return math.ceil(rows / together) * together
