"""Work on all cores by compiled functions that hold no Python lock.

Numba's own thread layers refuse calls from several threads at once, which a server makes, hence the pool here.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_lock = threading.Lock()


def compiled(function: Callable) -> Any:
    """Compile without the Python lock; keep the machine code on disk if a folder can be written."""
    from numba import njit

    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Numba found no folder for its cache
        return njit(nogil=True)(function)


def run(call: Callable[[Any], object], units: Iterable[Any]) -> None:
    """Call a function with each unit, as many at a time as PyTorch has threads; this thread does its share.

    An error of a call is raised here, after the other calls.
    """
    left = deque(units)
    helpers = min(torch.get_num_threads(), len(left)) - 1
    others = [_pool().submit(_drain, call, left) for _ in range(helpers)]
    try:
        _drain(call, left)
    finally:
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error


def _drain(call: Callable[[Any], object], left: deque) -> None:
    while True:
        try:
            unit = left.popleft()
        except IndexError:
            return
        call(unit)


def _pool() -> ThreadPoolExecutor:
    """Return this process's pool; a forked child gets its own, since threads do not survive a fork."""
    key = (os.getpid(), torch.get_num_threads())
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(key[1], thread_name_prefix="compiled")
        return _pools[key]
