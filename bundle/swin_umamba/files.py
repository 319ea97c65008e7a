"""Writing files so that a reader, or a crash, never meets half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from swin_umamba.errors import InputError


@contextlib.contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends well.

    The temporary name keeps the suffixes of `path` (writers choose a format by them). When the block fails, `path` is
    as it was and the temporary file is gone.

    Args:
        path: the file to write; its folder is made when it is missing.

    Raises:
        InputError: if the folder cannot be made or written to.
    """
    path = Path(path)
    make_writable_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f".part{''.join(path.suffixes)}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # or a power failure may leave the new name and none of the content
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_writable_folder(folder: str | os.PathLike) -> Path:
    """Make a folder, with its parents, and check that files can be made in it.

    Raises:
        InputError: naming the folder and the reason.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be written to: {error.strerror or error}") from error
    return folder


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
