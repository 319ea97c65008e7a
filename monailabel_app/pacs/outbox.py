"""Labels on their way into the PACS. They are safe in the data store before; what cannot be sent now is sent later."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydicom
from filelock import FileLock, Timeout
from pydicom.dataset import Dataset
from swin_umamba.dicom.provenance import find_earlier
from swin_umamba.dicom.segmentation import write_segmentation  # noqa: F401 - loads highdicom before anyone waits
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.models import ModelSpec, file_sha256

from monailabel_app.history import DIGITS, History
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.labels import made_at, write_label
from monailabel_app.pacs.records import Records

logger = logging.getLogger(__name__)

TYPES = {"final": "SEMIAUTOMATIC", "original": "AUTOMATIC"}  # SEG's algorithm type, by the tag of a label
RESULT = "params"  # in a label's info: it is a model's result
PATIENCE = 20  # seconds that a label waits for others before it is put off


class Outbox:
    """Writes labels as DICOM SEG and stores them in the PACS, each once.

    Args:
        client: of the PACS.
        records: remember what was sent.
        history: tells who changed what.
        folder: for files on their way.
        spec_of: gives the description of a model by its name, or of the first one for None.
    """

    def __init__(
        self,
        client: PacsClient,
        records: Records,
        history: History,
        folder: str | os.PathLike,
        spec_of: Callable[[str | None], ModelSpec],
    ) -> None:
        self.client, self.records, self.history = client, records, history
        self.folder = make_writable_folder(folder)
        self._spec_of = spec_of
        self._digests: dict[str, tuple[tuple[int, int], str]] = {}

    def digest(self, file: str) -> str:
        """Return the digest of a file, computed again only when it has changed."""
        state = os.stat(file)
        stamp = (state.st_mtime_ns, state.st_size)
        if self._digests.get(file, (None, ""))[0] != stamp:
            self._digests[file] = (stamp, file_sha256(file)[:DIGITS])
        return self._digests[file][1]

    def state(self, image: str, tag: str, file: str) -> str:
        """Return "stored", "waits", or why the label can never be stored."""
        digest, sent = self.digest(file), self.records.sent(image, tag)
        if sent is not None and sent[0] == digest:
            return "stored"
        return self.records.refused().get(digest, "waits")

    def send(self, image: str, tag: str, file: str, info: Mapping[str, Any], study: str, series: Path) -> bool:
        """Store a label in the PACS, unless it is there.

        It supersedes our earlier segmentations of the series, by whichever model. When the server stops between
        storing and noting, the same file is sent again, which changes nothing in the PACS.

        Args:
            image: UID of the series.
            tag: "final" or "original".
            file: the label map.
            info: what is known of the label.
            study: UID of the study.
            series: folder of the images.

        Returns:
            Whether it was sent now.

        Raises:
            PacsError: if the PACS does not take it; it may later.
            InputError: if the label cannot be written as a segmentation, which is noted.
        """
        with self._alone():
            digest = self.digest(file)
            if self.state(image, tag, file) == "stored":
                return False
            path = self.folder / f"{image}-{tag}-{digest}.dcm"
            try:
                dataset = self._write(path, tag, file, info, study, series)
            except PacsError:
                raise
            except InputError as error:
                self.records.refuse(digest, str(error))
                raise
            self.client.store([dataset])
            self.records.note_sent(image, tag, digest, str(dataset.SOPInstanceUID), made_at(dataset))
            for old in self.folder.glob(f"{image}-{tag}-*.dcm"):
                old.unlink()
        self.history.tell("send label", image=image, tag=tag, digest=digest, instance=str(dataset.SOPInstanceUID))
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one label after the other out, of all processes."""
        try:
            with FileLock(self.folder / ".lock", timeout=PATIENCE):
                yield
        except Timeout as error:
            raise PacsError(f"the PACS at {self.client.url} is busy with another label", status=503) from error

    def _write(self, path: Path, tag: str, file: str, info: Mapping[str, Any], study: str, series: Path) -> Dataset:
        if path.is_file():
            return pydicom.dcmread(path)
        spec = self._spec_of(info.get("model"))
        earlier = find_earlier(self._segmentations(study), str(series), None)
        if tag == "original" and any(is_corrected(item) for item in earlier):
            raise InputError("a corrected segmentation of the series is stored; an automatic one does not supersede it")
        return write_label(file, info, series, spec, path, algorithm_type(tag, info), earlier)

    def _segmentations(self, study: str) -> list[Dataset]:
        series = self.client.series({"Modality": "SEG"}, study)
        return [header for uid in series for header in self.client.headers(study, uid)]


def algorithm_type(tag: str, info: Mapping[str, Any]) -> str:
    """Return SEG's algorithm type of a label; a model's result may be kept as final without a person."""
    return TYPES["original"] if RESULT in info else TYPES[tag]


def is_corrected(header: Dataset) -> bool:
    """Tell whether a person made or corrected a segmentation."""
    return any(segment.get("SegmentAlgorithmType") != "AUTOMATIC" for segment in header.get("SegmentSequence") or [])
