"""Errors that a user can mend, told in one line.

A config is evaluated deep inside MONAI, so a plain exception reaches the terminal as pages of traceback. `InputError`
marks what the caller, not the code, has to change; once `report_errors_in_one_line` was called its message is all that
is printed.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

TRACEBACK_VARIABLE = "SWIN_UMAMBA_TRACEBACK"


class InputError(ValueError):
    """Input that cannot be used; the message names the value and what is legal."""


def input_error_of(error: BaseException | None) -> InputError | None:
    """Return the `InputError` that `error` is or was caused by, or None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def report_errors_in_one_line() -> None:
    """Print an uncaught `InputError` as one line on stderr instead of a traceback; other errors stay as they are.

    Setting the environment variable SWIN_UMAMBA_TRACEBACK to anything but 0 keeps the traceback. The exit code is that
    of any uncaught exception, 1.
    """
    if os.environ.get(TRACEBACK_VARIABLE, "0") == "0" and sys.excepthook is not _print_in_one_line:
        sys.excepthook = _print_in_one_line


def _print_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = input_error_of(error)
    if cause is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {' '.join(str(cause).split())}", file=sys.stderr)
