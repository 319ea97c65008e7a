"""Coroutines in tests of one process with a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def run_coroutine(coroutine: Coroutine[object, object, Result]) -> Result:
    """Return what a coroutine returns, run in a thread of its own: Playwright holds the main one's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
