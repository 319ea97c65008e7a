"""The images of a PACS as a data store: series found, fetched and described."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.exception import ImageNotFoundException
from swin_umamba.errors import InputError

from monailabel_app.datastore import SafeDatastore
from monailabel_app.history import History
from monailabel_app.pacs.cache import SeriesCache
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsError

logger = logging.getLogger(__name__)

UID = re.compile(r"[0-9][0-9.]{0,63}")


class PacsImages(SafeDatastore):
    """Image series of a DICOMweb server.

    Args:
        client: of the server.
        folder: for the list of series and for labels.
        history: keeps what is submitted and tells who changed what.
        search_filter: DICOMweb query of the series that are offered.
        cache: copies of series.
    """

    def __init__(
        self,
        client: PacsClient,
        folder: str | os.PathLike,
        history: History,
        search_filter: Mapping[str, Any],
        cache: SeriesCache,
    ) -> None:
        self.client, self.cache, self.search_filter = client, cache, dict(search_filter)
        self.wake = threading.Event()  # someone asked for what may be old by now
        super().__init__(folder, history, auto_reload=False)

    def name(self) -> str:
        """The PACS's address."""
        return self.client.url

    def knows(self, image_id: str) -> bool:
        """Tell whether there is such a series; one that is new in the PACS is found too."""
        if image_id not in self._datastore.objects:
            try:
                self._look_up(image_id)
            except PacsError as error:
                logger.warning("%s; what is known of it stays", error)
        return image_id in self._datastore.objects

    def list_images(self) -> list[str]:
        """Return the UIDs of the series."""
        self.ask_for_news()
        return super().list_images()

    def ask_for_news(self) -> None:
        """Have the PACS asked soon which series and labels it has."""
        self.wake.set()

    def get_image_uri(self, image_id: str) -> str:
        """Return a series as one NIfTI file, fetched and converted when it is not there yet."""
        return str(self.cache.volume(image_id, self.series_folder(image_id)).resolve())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what the PACS says of a series."""
        entry = self._datastore.objects.get(image_id)
        return dict(entry.image.info) if entry else {}

    def sample_info(self, image_id: str) -> dict[str, Any]:
        """Return what 3D Slicer needs to open a series: the name of what it downloads. Nothing is fetched for that."""
        return {"path": "", "name": f"{image_id}.nii.gz", **self.get_image_info(image_id)}

    def series_folder(self, image_id: str) -> Path:
        """Return the folder with the instances of a series, fetched when they are not all there.

        Raises:
            ImageNotFoundException: if the PACS has no such series.
            PacsError: if it is not here and the PACS does not answer.
        """
        info = self._existing(image_id).image.info
        try:
            info = self._look_up(image_id) or info
        except PacsError as error:
            logger.warning("%s; the copy of the series is used if there is one", error)
        study, count = info["StudyInstanceUID"], int(info.get("NumberOfSeriesRelatedInstances") or 0)
        folder = self.cache.dicom(image_id, count, lambda place: self.client.fetch(study, image_id, place))
        if not folder.is_dir():
            raise ImageNotFoundException(f"series {image_id} has no instances in the PACS any more")
        return folder

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Images come from the PACS alone.

        Raises:
            InputError: always.
        """
        raise InputError("image: legal: none; images come from the PACS, send the series there")

    def remove_image(self, image_id: str) -> None:
        """Series are removed in the PACS alone.

        Raises:
            InputError: always.
        """
        raise InputError("image: series are removed in the PACS, not here")

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Keep something about a series; it has to be known, and nothing is fetched."""
        with self._list_lock:
            super().update_image_info(image_id, info)

    def _look_up(self, image_id: str) -> dict[str, Any] | None:
        """Ask the PACS for one series; returns what is known of it, or None if there is no such series."""
        if not UID.fullmatch(image_id):
            return None
        info = self.client.one_series(image_id, self.search_filter)
        if info is None:
            return None
        with self._list_lock:
            entry = self._datastore.objects.get(image_id)
            if entry is None:
                entry = ImageLabelModel(image=DataModel(ext=".nii.gz", info=info))
                self._datastore.objects = {**self._datastore.objects, image_id: entry}
                self._update_datastore_file()
            entry.image.info.update(info)
        return entry.image.info
