"""The data store of a PACS: its image series, and their labels, kept here and stored there.

    <folder>/series/                  copies of series, see `monailabel_app.pacs.cache`
    <folder>/labels/                  labels, as in the data store of a folder of files
    <folder>/datastore_v2.json        what is known of all series
    <folder>/pacs.sqlite, outgoing/   what was sent, see `monailabel_app.pacs.outbox`

No request waits for a list of all series: that is asked for in the background.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.exception import ImageNotFoundException
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.label_maps import save_label_map
from swin_umamba.models import ModelSpec

from monailabel_app.datastore import check_label
from monailabel_app.history import History
from monailabel_app.pacs.cache import SeriesCache
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.images import PacsImages
from monailabel_app.pacs.inbox import Inbox
from monailabel_app.pacs.labels import read_label
from monailabel_app.pacs.outbox import TYPES, Outbox
from monailabel_app.pacs.records import Found, Records

logger = logging.getLogger(__name__)

ELSEWHERE = "pacs"  # in a label's info: the segmentation in the PACS that it is, not yet fetched
SEND = "send_to_pacs"  # in an automatic label's info: a person wants it in the PACS


class PacsDatastore(PacsImages):
    """Image series of a DICOMweb server and their labels.

    Args:
        client: of the server.
        folder: for copies of series, labels and notes.
        history: keeps what is submitted and tells who changed what.
        spec_of: gives the description of a model by its name, or of the first one for None; it names the segments.
        organs: tells the names of all models' organs; a segmentation of others is no label for us.
        search_filter: DICOMweb query of the series that are offered.
        cache: copies of series.
    """

    def __init__(
        self,
        client: PacsClient,
        folder: str | os.PathLike,
        history: History,
        spec_of: Callable[[str | None], ModelSpec],
        organs: Callable[[], Collection[str]],
        search_filter: Mapping[str, Any],
        cache: SeriesCache,
    ) -> None:
        self._organs = organs
        self._taking = threading.RLock()  # one label of others after the other
        self.records = Records(folder)
        self.inbox = Inbox(client, self.records, organs)
        self.outbox = Outbox(client, self.records, history, make_writable_folder(Path(folder) / "outgoing"), spec_of)
        super().__init__(client, folder, history, search_filter, cache)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Return {"image", "label"} of all series with a final label; those that are not here are fetched."""
        images = self.get_labeled_images()
        return [{"image": self.get_image_uri(uid), "label": self.get_label_uri(uid, "final")} for uid in images]

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the file of a label, "" if there is none; one that so far only the PACS has is fetched.

        Raises:
            PacsError: if it is not here and the PACS does not answer.
        """
        tag = _tag(label_tag)
        found = self._found(label_id) if tag == "final" else None
        if found is not None:
            self._take_in(label_id, found)
        return super().get_label_uri(label_id, tag)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label, and store it in the PACS if it is final or that is asked for; what fails now is sent later."""
        found = self._found(image_id) if _tag(label_tag) == "final" else None
        if found is not None:  # a label of others that nobody has fetched yet is older than this one
            check_label(label_filename, self.get_image_uri(image_id), label_info or {})
            self.records.note_sent(image_id, "final", "", found.instance, found.made)
            self._datastore.objects[image_id].labels.pop("final")
        saved = super().save_label(image_id, label_filename, label_tag, label_info)
        self.send(image_id, _tag(label_tag))
        return saved

    def send(self, image_id: str, tag: str) -> str:
        """Store a label in the PACS if it should be there; returns "stored", "waits", "local", or why it cannot be."""
        if not self._wanted(image_id, tag):
            return "local"
        try:
            info, file = self.label_meaning(image_id, tag), self.get_label_uri(image_id, tag)
            study = self._existing(image_id).image.info["StudyInstanceUID"]
            if self.outbox.state(image_id, tag, file) == "waits":
                self.outbox.send(image_id, tag, file, info, study, self.series_folder(image_id))
        except PacsError as error:
            logger.warning("a label of series %s waits for the PACS: %s", image_id, error)
        except (InputError, ImageNotFoundException) as error:
            logger.warning("a label of series %s cannot be stored in the PACS: %s", image_id, error)
        return self.sending(image_id, tag)

    def sending(self, image_id: str, tag: str) -> str:
        """Return "local" (nobody wants it in the PACS), "stored", "waits", or why a label cannot be stored."""
        if not self._wanted(image_id, tag):
            return "local"
        return self.outbox.state(image_id, tag, super().get_label_uri(image_id, tag))

    def waiting(self) -> list[tuple[str, str]]:
        """Return (series UID, tag) of all labels that wait for the PACS."""
        labels = [(image, tag) for image, entry in self._datastore.objects.items() for tag in tuple(entry.labels)]
        return [(image, tag) for image, tag in labels if self.sending(image, tag) == "waits"]

    def check_send(self, image_id: str) -> None:
        """Check that an automatic result of a series may go into the PACS.

        Raises:
            InputError: if a person has made a label of it.
        """
        if "final" in self._existing(image_id).labels:
            raise InputError(
                f"{SEND}: series {image_id} has a corrected label, which an automatic one does not replace"
            )

    def update(self) -> None:
        """Ask the PACS which series and which labels it has now.

        Raises:
            PacsError: if it does not answer; what is known stays.
        """
        images = self.client.series(self.search_filter)
        found = self.inbox.latest(images)
        with self._list_lock:
            self._init_from_datastore_file()
            before = self._datastore.objects
            objects = {uid: entry for uid, entry in before.items() if uid in images or _has_label(entry)}
            for uid, info in images.items():
                objects.setdefault(uid, ImageLabelModel(image=DataModel(ext=".nii.gz"))).image.info.update(info)
            changed = set(objects) != set(before)
            for uid, entry in objects.items():
                changed |= self._mark(uid, entry, found.get(uid))
            self._datastore.objects = objects
            if changed:
                self._add_non_existing_labels("final")
                self._update_datastore_file()

    def _mark(self, image: str, entry: ImageLabelModel, found: Found | None) -> bool:
        """Note that the PACS has a later label by a person, or has it no longer; returns whether that is new."""
        label, sent = entry.labels.get("final"), self.records.sent(image, "final")
        if found is None or (sent is not None and found.made <= sent[2]):
            if label is None or ELSEWHERE not in label.info:
                return False
            entry.labels.pop("final")  # a label that lies here is found again
            return True
        plain = dict(vars(found))
        if label is not None and (label.info.get(ELSEWHERE) == plain or self.sending(image, "final") == "waits"):
            return False
        info = {"client_id": found.who or "PACS", "ts": int(time.time()), ELSEWHERE: plain}
        entry.labels["final"] = DataModel(ext=label.ext if label else ".nii.gz", info=info)
        return True

    def _found(self, image: str) -> Found | None:
        """Return the label by others that is to be fetched when someone needs it."""
        label = self._datastore.label(image, "final")
        return Found(**label.info[ELSEWHERE]) if label is not None and ELSEWHERE in label.info else None

    def _take_in(self, image: str, found: Found) -> None:
        """Fetch a label that a person stored in the PACS; one that cannot be read is noted and forgotten."""
        with self._taking:
            label = self._datastore.label(image, "final")
            if label is None or self._found(image) is None:
                return  # another request was faster
            path = self.outbox.folder / f"{image}.nii.gz"
            try:
                dataset = self.client.instance(found.study, found.series, found.instance)
                voxels, meaning = read_label(dataset, self.series_folder(image), self._organs())
                save_label_map(path, voxels)
                info = {"label_info": meaning, "client_id": found.who or "PACS", "instance": found.instance}
                label.info.pop(ELSEWHERE)
                super().save_label(image, str(path), "final", info)
            except PacsError as error:
                if not Path(super().get_label_uri(image, "final")).is_file():
                    raise
                logger.warning("%s; the earlier label of series %s is used", error, image)
            except InputError as error:
                logger.warning("a segmentation of series %s in the PACS cannot be used: %s", image, error)
                self.records.refuse(found.instance, str(error))
                self._datastore.objects[image].labels.pop("final", None)
                self.refresh()
            else:
                file = super().get_label_uri(image, "final")
                self.records.note_sent(image, "final", self.outbox.digest(file), found.instance, found.made)
            finally:
                path.unlink(missing_ok=True)

    def _wanted(self, image: str, tag: str) -> bool:
        """Tell whether a label should be in the PACS: one by a person, or an automatic one that is wanted there."""
        label = self._datastore.label(image, tag)
        if label is None or tag not in TYPES or ELSEWHERE in label.info:
            return False
        return tag == "final" or bool(self.label_meaning(image, tag).get(SEND))

    def refresh(self) -> None:
        """Bring the list of labels up to date with the files here, and have the PACS asked for news soon."""
        self.wake.set()
        self._reconcile_datastore()

    def _reconcile_datastore(self) -> None:
        with self._list_lock:
            self._reconcile_labels()

    def _reconcile_labels(self) -> None:
        self._init_from_datastore_file()
        changed = 0
        for uid, entry in self._datastore.objects.items():
            for tag, label in tuple(entry.labels.items()):
                if ELSEWHERE not in label.info and not Path(super().get_label_uri(uid, tag)).is_file():
                    entry.labels.pop(tag)
                    changed += 1
        changed += sum(self._add_non_existing_labels(tag) for tag in TYPES)
        if changed:
            self._update_datastore_file()


def _tag(label_tag: Any) -> str:
    return str(getattr(label_tag, "value", label_tag))


def _has_label(entry: ImageLabelModel) -> bool:
    """A series that has left the PACS stays known as long as there is a label of it here."""
    return any(ELSEWHERE not in label.info for label in entry.labels.values())
