"""Copies of series on the server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers_dicom import write_series

from monailabel_app.pacs.cache import DAY, SeriesCache
from monailabel_app.pacs.connection import PacsError

AFFINE = np.diag([1.5, 1.25, 4.0, 1.0])


def fetch(count: int, size: int = 10):
    """Return a function that writes so many files, as the PACS's client does."""

    def write(folder: Path) -> int:
        for number in range(count):
            (folder / f"{number}.dcm").write_bytes(b"0" * size)
        return count

    return write


def never(_: Path) -> int:
    raise AssertionError("it is here already")


def age(cache: SeriesCache, uid: str, days: float) -> None:
    os.utime(cache.folder / uid, (time.time() - days * DAY,) * 2)


def test_series_is_fetched_once_and_again_when_there_is_more(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path)
    assert len(list(cache.dicom("1.2", 3, fetch(3)).iterdir())) == 3
    cache.dicom("1.2", 3, never)
    cache.dicom("1.2", 0, never)
    assert len(list(cache.dicom("1.2", 4, fetch(4)).iterdir())) == 4


def test_failure_leaves_nothing_half(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path)

    def fail(folder: Path) -> int:
        (folder / "0.dcm").write_bytes(b"0")
        raise PacsError("gone")

    with pytest.raises(PacsError):
        cache.dicom("1.2", 2, fail)
    assert cache.used() == {}
    cache.dicom("1.2", 2, fetch(2))
    with pytest.raises(PacsError):
        cache.dicom("1.2", 3, fail)
    assert len(list((tmp_path / "1.2" / "dicom").iterdir())) == 2  # what was there is not lost


def test_old_copies_go(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path, days=5)
    for uid, days in {"1.1": 6, "1.2": 4}.items():
        cache.dicom(uid, 1, fetch(1))
        age(cache, uid, days)
    assert cache.expire() == ["1.1"]
    assert list(cache.used()) == ["1.2"]


def test_longest_unused_go_while_all_are_too_large_but_not_what_is_in_use(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path, gigabytes=25e-6)  # of 10 kB each
    for uid, days in {"1.1": 0.5, "1.2": 3, "1.3": 2, "1.4": 0.1}.items():
        cache.dicom(uid, 1, fetch(1, 10_000))
        age(cache, uid, days)
    assert cache.expire() == ["1.2", "1.3"]
    assert cache.expire() == []


def test_purge_takes_all(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path)
    cache.dicom("1.1", 1, fetch(1))
    assert cache.purge() == ["1.1"]
    assert list(tmp_path.iterdir()) == []


def test_volume_lies_where_the_series_lies(tmp_path: Path) -> None:
    cache = SeriesCache(tmp_path)
    voxels = np.arange(5 * 4 * 3).reshape(5, 4, 3).astype(float)
    folder = cache.dicom("1.2", 3, lambda place: len(write_series(place, voxels, AFFINE)))
    file = cache.volume("1.2", folder)
    image = nib.load(file)
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.get_data_dtype() == np.int16
    stamp = file.stat().st_mtime_ns
    assert cache.volume("1.2", folder).stat().st_mtime_ns == stamp
