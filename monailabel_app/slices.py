"""Label maps as viewers hold them: slice by slice, each called by the DICOM instance and frame that it lies on.

A slice's labels are runs, `[count, label, count, label, …]`, row after row from the first pixel of the image. Slices
are found by their names alone and never by their order, so a label map cannot come to lie elsewhere than its images.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from swin_umamba.dicom.source import read_source
from swin_umamba.errors import InputError

Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class SliceGrid:
    """The slices of one series.

    Args:
        keys: (SOP instance UID, number of the frame, from 1) of each slice, in the order of the volume's third axis.
        rows: of each slice.
        columns: of each slice.
        voxel_ml: volume of a voxel.
    """

    keys: tuple[Key, ...]
    rows: int
    columns: int
    voxel_ml: float

    @staticmethod
    def of(series: str | os.PathLike) -> SliceGrid:
        """Return the slices of a series; its headers are read once, as long as no file comes or goes.

        Args:
            series: folder with one series, no folder in it.

        Raises:
            InputError: if it is no volume.
        """
        return _read_grid(os.fspath(series), os.stat(series).st_mtime_ns)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return (self.columns, self.rows, len(self.keys))

    def position(self, entry: Any) -> int:
        """Return which slice along the third axis a client means.

        Args:
            entry: {"uid", "frame"}; the frame of an image with one frame may be missing.

        Raises:
            InputError: if the series has no such slice.
        """
        uid, frame = (entry.get("uid"), entry.get("frame", 1)) if isinstance(entry, Mapping) else (None, 1)
        try:
            return self.keys.index((uid, frame))  # what is no key is not found
        except ValueError:
            raise InputError(
                f"slices: the series has no slice {str(uid)[:70]!r}, frame {str(frame)[:10]}; legal: the SOP instance "
                f"UIDs of its {len(self.keys)} slices"
            ) from None


@functools.lru_cache(maxsize=64)
def _read_grid(series: str, changed: int) -> SliceGrid:
    source = read_source(series)
    columns, rows, _ = source.shape
    keys = tuple((plane.file, plane.frame + 1) for plane in source.planes)
    return SliceGrid(keys, rows, columns, abs(float(np.linalg.det(source.affine[:3, :3]))) / 1000)


def encode_slices(voxels: np.ndarray, grid: SliceGrid, chosen: Collection[int] | None = None) -> list[dict[str, Any]]:
    """Return slices as viewers take them.

    Args:
        voxels: (column, row, slice) as uint8.
        grid: names the slices.
        chosen: positions along the third axis; None for all.

    Returns:
        {"uid", "frame", "runs"} of each.
    """
    positions = range(len(grid.keys)) if chosen is None else sorted(chosen)
    named = ((grid.keys[k], voxels[:, :, k].T) for k in positions)  # (column, row) -> (row, column)
    return [{"uid": uid, "frame": frame, "runs": encode_runs(pixels)} for (uid, frame), pixels in named]


def decode_slices(entries: Any, grid: SliceGrid, legal: Collection[int]) -> np.ndarray:
    """Return the label map (column, row, slice) of a client's slices, as uint8.

    Args:
        entries: {"uid", "frame", "runs"} of every slice of the series, in any order.
        grid: of the series.
        legal: labels, besides 0.

    Raises:
        InputError: if a slice is unknown, missing or there twice, runs do not fill it, or a label is not legal.
    """
    if not isinstance(entries, list):
        raise InputError(f"slices: legal: a list of {{uid, frame, runs}}, not {str(entries)[:40]!r}")
    voxels = np.zeros(grid.shape, np.uint8)
    there: set[int] = set()
    for entry in entries:
        position = grid.position(entry)
        name = f"slice {grid.keys[position][0]}"
        if position in there:
            raise InputError(f"slices: {name} is there twice; legal: every slice once")
        there.add(position)
        flat = decode_runs(entry.get("runs"), grid.rows * grid.columns, legal, name)
        voxels[:, :, position] = flat.reshape(grid.rows, grid.columns).T  # (row, column) -> (column, row)
    missing = [grid.keys[k][0] for k in range(len(grid.keys)) if k not in there]
    if missing:
        raise InputError(f"slices: {len(missing)} of {len(grid.keys)} are missing, such as {missing[0]}")
    return voxels


def encode_runs(pixels: np.ndarray) -> list[int]:
    """Return `[count, label, count, label, …]` of an array, read row after row."""
    flat = np.ascontiguousarray(pixels).ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    counts = np.diff(np.append(starts, flat.size))
    return np.column_stack([counts, flat[starts]]).ravel().tolist()


def decode_runs(runs: Any, size: int, legal: Collection[int], what: str) -> np.ndarray:
    """Return the labels (size,) of runs, as uint8.

    Args:
        runs: `[count, label, count, label, …]`.
        size: that the counts add up to.
        legal: labels, besides 0.
        what: these are runs of, for messages.

    Raises:
        InputError: for anything else.
    """
    whole = isinstance(runs, Sequence) and not isinstance(runs, str) and len(runs) % 2 == 0
    if not whole or not all(type(number) is int and 0 <= number <= size + 255 for number in runs):
        raise InputError(f"runs of {what}: legal: [count, label, count, label, …], not {str(runs)[:40]!r}")
    pairs = np.array(runs, np.int64).reshape(-1, 2)  # (number of runs, 2)
    strangers = sorted(set(pairs[:, 1].tolist()) - {0, *legal})
    if strangers:
        raise InputError(f"runs of {what}: labels {strangers[:5]} are no segments; legal: {sorted({0, *legal})}")
    if pairs[:, 0].sum() != size:
        raise InputError(f"runs of {what} are {pairs[:, 0].sum()} pixels; legal: {size}, rows times columns")
    return np.repeat(pairs[:, 1], pairs[:, 0]).astype(np.uint8)
