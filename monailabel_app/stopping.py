"""Stopping an inference that its person does not wait for any more, between two steps of the network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar

from swin_umamba.errors import InputError
from torch import nn

LONGEST_NAME = 64

_running: dict[str, threading.Event] = {}
_asked: ContextVar[threading.Event | None] = ContextVar("asked", default=None)


class Stopped(Exception):
    """The inference was stopped by request; nothing of it is kept."""


@contextlib.contextmanager
def stoppable(name: str | None) -> Iterator[None]:
    """Let `stop` end what runs within the block, in this thread.

    Args:
        name: that the client chose; None for an inference that nobody can stop.

    Raises:
        InputError: if the name is illegal, or one of that name runs.
        Stopped: if it was stopped.
    """
    if name is None:
        yield
        return
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InputError(f"run {str(name)[:70]!r}: legal: 1 to {LONGEST_NAME} printable characters")
    event = threading.Event()
    if _running.setdefault(name, event) is not event:
        raise InputError(f"run {name!r}: one of that name runs; legal: a name of its own")
    token = _asked.set(event)
    try:
        yield
    finally:
        _asked.reset(token)
        del _running[name]


def stop(name: str) -> bool:
    """Ask an inference to end before the network's next step; returns whether one of that name runs."""
    event = _running.get(name)
    if event is not None:
        event.set()
    return event is not None


@contextlib.contextmanager
def watched(network: nn.Module) -> Iterator[None]:
    """Have a network look, before each of its steps within the block, whether it is to stop."""
    asked = _asked.get()
    if asked is None:
        yield
        return

    def look(*_: object) -> None:
        if asked.is_set():
            raise Stopped("stopped by request; nothing was changed")

    hook = network.register_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
