"""Work on all cores by compiled functions that hold no Python lock.

It runs on PyTorch's own OpenMP threads. They wait for more work in a busy loop after each operator of PyTorch, so that
other threads would have to fight them for the cores. Where that library cannot be reached (another system, a forked
child), a pool does the work. Numba's thread layers refuse calls from several threads at once, which a server makes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_lock = threading.Lock()
_born = os.getpid()  # of the process that may have OpenMP threads; they do not survive a fork
_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


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
    threads = min(torch.get_num_threads(), len(left))
    errors: list[BaseException] = []
    work = partial(_drain, call, left, errors)
    parallel = openmp() if os.getpid() == _born else None
    if threads < 2:
        work()
    elif parallel is not None:
        parallel(_Body(lambda _: work()), None, threads, 0)
    else:
        others = [_pool().submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()
    for error in errors:
        raise error


@cache
def openmp() -> Any:
    """Return GOMP_parallel(body, data, threads, flags) of the OpenMP library that PyTorch itself uses, if there is one.

    A symbol is looked up in a library and then in what that library was linked with.
    """
    if not torch.backends.openmp.is_available():
        return None
    try:
        parallel = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes, parallel.restype = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


def _drain(call: Callable[[Any], object], left: deque, errors: list[BaseException]) -> None:
    while True:
        try:
            unit = left.popleft()
        except IndexError:
            return
        try:
            call(unit)
        except BaseException as error:  # must not leave a thread of OpenMP; this thread raises it
            errors.append(error)
            return


def _pool() -> ThreadPoolExecutor:
    """Return this process's pool; a forked child gets its own, since threads do not survive a fork."""
    key = (os.getpid(), torch.get_num_threads())
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(key[1], thread_name_prefix="compiled")
        return _pools[key]
