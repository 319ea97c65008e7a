"""Remarks about one case that a person should read beside its result, in the report and not only in a log."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("case_warnings", default=None)


class CaseWarning(UserWarning):
    """The case was segmented, but something about it makes the result doubtful."""


def warn_of_case(message: str) -> None:
    """Say something about the case being worked on: to `collect_case_warnings`, or as a `CaseWarning` outside of it."""
    messages = _collected.get()
    if messages is None:
        warnings.warn(message, CaseWarning, stacklevel=3)
    elif message not in messages:
        messages.append(message)


@contextlib.contextmanager
def collect_case_warnings(messages: list[str]) -> Iterator[None]:
    """Append what `warn_of_case` says within the block to `messages`, each remark once; threads do not mix."""
    token = _collected.set(messages)
    try:
        yield
    finally:
        _collected.reset(token)
