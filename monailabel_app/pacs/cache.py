"""The server's copies of series: fetched when someone needs them, removed when they are old or too many.

<folder>/<series UID>/dicom/*.dcm            as the PACS sent them: with the patient's name
<folder>/<series UID>/<series UID>.nii.gz    for the viewers and the networks: without
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from filelock import FileLock, Timeout
from monai.data import MetaTensor
from swin_umamba.files import make_writable_folder, replace_file

from monailabel_app.datastore import read_volume

logger = logging.getLogger(__name__)

DAY = 24 * 60 * 60
IN_USE = DAY  # seconds that a copy stays after it was used, whatever the limits: a training may be reading it
LOCKED = 600  # seconds to wait for another who fetches the same series
PART = ".part"


class SeriesCache:
    """A folder with copies of series.

    Args:
        folder: for them; nothing else should be there.
        days: that a copy is kept after it was last used.
        gigabytes: that all copies may take together; the ones unused longest go first.
    """

    def __init__(self, folder: str | os.PathLike, days: float = 30.0, gigabytes: float = 50.0) -> None:
        self.folder = make_writable_folder(folder)
        self.days, self.gigabytes = days, gigabytes

    def dicom(self, uid: str, count: int, fetch: Callable[[Path], int]) -> Path:
        """Return the folder with the instances of a series, fetched when they are not there.

        Args:
            uid: of the series.
            count: of its instances in the PACS; fewer copies, of a series that was still being sent, are fetched anew.
                0 takes what is there.
            fetch: writes the instances into a folder and returns how many.
        """
        place = self.folder / uid
        with self._lock(uid):
            if not (place / "dicom").is_dir() or sum(1 for _ in (place / "dicom").iterdir()) < count:
                part = self.folder / f"{uid}{PART}"
                shutil.rmtree(part, ignore_errors=True)
                (part / "dicom").mkdir(parents=True)
                try:
                    if fetch(part / "dicom") > 0:
                        shutil.rmtree(place, ignore_errors=True)
                        os.rename(part, place)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            if place.is_dir():
                os.utime(place)
        return place / "dicom"

    def volume(self, uid: str, dicom: Path) -> Path:
        """Return a series as one NIfTI file, made when it is not there.

        Args:
            uid: of the series.
            dicom: folder with its instances, from `dicom`.

        Raises:
            InputError: if the instances do not make one volume.
        """
        file = self.folder / uid / f"{uid}.nii.gz"
        with self._lock(uid):
            if not file.is_file():
                volume = read_volume(str(dicom), "series")
                with replace_file(file) as path:
                    nib.save(as_nifti(volume), path)
            os.utime(self.folder / uid)
        return file

    def used(self) -> dict[str, tuple[float, int]]:
        """Return {series UID: (time of last use, bytes)} of all copies."""
        found = {}
        for place in self.folder.iterdir():
            if place.is_dir():
                size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
                found[place.name] = (place.stat().st_mtime, size)
        return found

    def expire(self) -> list[str]:
        """Remove copies that nobody used for long, then the oldest while all are too large; returns their UIDs."""
        now, copies = time.time(), self.used()
        total = sum(size for _, size in copies.values())
        removed = []
        for uid, (last, size) in sorted(copies.items(), key=lambda item: item[1][0]):
            too_much = total > self.gigabytes * 10**9
            if now - last > max(IN_USE, self.days * DAY) or (too_much and now - last > IN_USE):
                if self.remove(uid):
                    total -= size
                    removed.append(uid)
        return removed

    def purge(self) -> list[str]:
        """Remove all copies, in use or not; returns their UIDs."""
        return [uid for uid in self.used() if self.remove(uid)]

    def remove(self, uid: str) -> bool:
        """Remove the copy of a series, unless it is being fetched at the moment."""
        try:
            with FileLock(self._lock_file(uid), timeout=0):
                shutil.rmtree(self.folder / uid, ignore_errors=True)
        except Timeout:
            return False
        Path(self._lock_file(uid)).unlink(missing_ok=True)
        return not (self.folder / uid).exists()

    def _lock(self, uid: str) -> FileLock:
        return FileLock(self._lock_file(uid), timeout=LOCKED)

    def _lock_file(self, uid: str) -> str:
        return str(self.folder / f".{uid.removesuffix(PART)}.lock")


def as_nifti(volume: MetaTensor) -> nib.Nifti1Image:
    """Return an image (1, X, Y, Z) as NIfTI with its affine; whole numbers that fit are int16, half as large."""
    voxels = volume[0].numpy()
    short = voxels.astype(np.int16)
    image = nib.Nifti1Image(short if np.array_equal(short, voxels) else voxels, volume.affine.numpy())
    for kind in (image.set_sform, image.set_qform):
        kind(volume.affine.numpy(), code="scanner")
    image.header.set_xyzt_units("mm")
    return image
