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
        raised = _raised_in_worker(error)
        if raised is not None or isinstance(error, InputError):
            return raised or error  # type: ignore[return-value]
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _raised_in_worker(error: BaseException) -> InputError | None:
    """Return the error of a data loader's worker, of which PyTorch passes on no more than the traceback as text."""
    text = str(error)
    sign = f".{InputError.__name__}: "
    if not text.startswith("Caught ") or "\nOriginal Traceback" not in text or sign not in text:
        return None
    return InputError(text.rpartition(sign)[2].split("\n\nThe above exception", 1)[0].strip())


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
