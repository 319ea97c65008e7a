"""Errors that reach a person as one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from swin_umamba.errors import InputError, input_error_of
from torch.utils.data import DataLoader

SCRIPT = """
import pytest
from swin_umamba.errors import InputError, report_errors_in_one_line
from torch.utils.data import DataLoader
report_errors_in_one_line()
try:
    raise {error}
except Exception as error:
    raise RuntimeError("Failed to evaluate") from error
"""


def run(error: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "bundle", "PATH": "/usr/bin:/bin", **environment},
        cwd=Path(__file__).parent.parent,
    )


def test_input_error_is_one_line_without_traceback():
    done = run("InputError('spacing -1:\\n  legal: above 0')")
    assert done.returncode == 1
    assert done.stderr == "error: spacing -1: legal: above 0\n"


def test_other_errors_keep_their_traceback():
    done = run("KeyError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "a bug" in done.stderr


def test_traceback_on_request():
    assert "Traceback" in run("InputError('x')", SWIN_UMAMBA_TRACEBACK="1").stderr


def test_cause_is_found_through_contexts():
    def fail_twice():
        try:
            raise InputError("inner")
        except InputError:
            raise KeyError("outer")  # noqa: B904

    with pytest.raises(KeyError) as raised:
        fail_twice()
    assert str(input_error_of(raised.value)) == "inner"
    assert input_error_of(KeyError("alone")) is None
    assert input_error_of(None) is None


def raise_input_error(index: int) -> None:
    try:
        raise InputError(f"item {index} is bad\nin two lines")
    except InputError as error:
        raise RuntimeError("applying transform") from error


class Broken:
    __getitem__ = staticmethod(raise_input_error)

    def __len__(self) -> int:
        return 1


def test_error_of_a_worker_is_told_without_its_traceback():
    with pytest.raises(RuntimeError, match="Caught RuntimeError in DataLoader worker") as raised:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert str(input_error_of(raised.value)) == "item 0 is bad\nin two lines"
