"""Writing files so that a reader, or a crash, never meets half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from swin_umamba.errors import InputError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextlib.contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there when the block ends well.

    The temporary name keeps the suffixes of `path` (writers choose a format by them). When the block fails, `path` is
    as it was and the temporary file is gone. The file is on the disk before it takes its name.

    Args:
        path: the file to write; its folder is made when it is missing.

    Raises:
        InputError: if the folder cannot be made or written to, or the disk is full.
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
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise (disk_error(error, path) or error) from error
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


def disk_error(error: BaseException | None, path: str | os.PathLike) -> InputError | None:
    """Return what to tell the user of an error that a full or broken disk caused, or None for any other error.

    Args:
        error: its causes are looked at too.
        path: that was to be written.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return InputError(f"{str(path)!r} cannot be written: {error.strerror}; the file is as it was before")
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def save_tensors(path: str | os.PathLike, content: Any) -> None:
    """Write tensors and plain data by `torch.save`.

    Raises:
        OSError: if the disk is full, where `torch.save` itself may raise anything.
    """
    with open(path, "wb") as file:
        watched = _WatchedFile(file)
        try:
            torch.save(content, watched)  # type: ignore[arg-type]  # needs write and flush alone
        except Exception:
            if watched.error is not None:
                raise watched.error from None
            raise


class _WatchedFile:
    """Remember why a write failed; PyTorch's writer tells only that one did."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
