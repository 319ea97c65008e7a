"""Remarks about one case that a person should read beside its result, in the report and not only in a log."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


class CaseWarning(UserWarning):
    """The case was segmented, but something about it makes the result doubtful."""


def warn_of_case(message: str) -> None:
    """Say something about the case being worked on; `collect_case_warnings` brings it to the report."""
    warnings.warn(message, CaseWarning, stacklevel=3)


@contextlib.contextmanager
def collect_case_warnings(messages: list[str]) -> Iterator[None]:
    """Append the text of every new `CaseWarning` of the block to `messages`; other warnings are shown as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CaseWarning)
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *args, **kwargs) -> None:
            if not issubclass(category, CaseWarning):
                show(message, category, *args, **kwargs)
            elif str(message) not in messages:
                messages.append(str(message))

        warnings.showwarning = keep
        yield
