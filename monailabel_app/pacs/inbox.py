"""Segmentations that people stored in the PACS by other ways: with a viewer, a workstation, another server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.labels import look_at
from monailabel_app.pacs.records import Found, Records

logger = logging.getLogger(__name__)


class Inbox:
    """Knows the latest segmentation by a person of each image series.

    The headers of a series of segmentations are asked for once, and again when it has another number of instances.

    Args:
        client: of the PACS.
        records: remember what was looked at.
        organs: tells the names of the models' organs.
    """

    def __init__(self, client: PacsClient, records: Records, organs: Callable[[], Collection[str]]) -> None:
        self._client, self._records, self._organs = client, records, organs

    def latest(self, images: Mapping[str, Mapping[str, str]]) -> dict[str, Found]:
        """Return {series UID: the latest segmentation by a person} of those image series that have one.

        Args:
            images: {series UID: what is known of it}; studies without one of them are passed over.

        Raises:
            PacsError: if the PACS does not answer.
        """
        studies = {info["StudyInstanceUID"] for info in images.values()}
        seen, refused = self._records.seen(), self._records.refused()
        latest: dict[str, Found] = {}
        for series, info in self._client.series({"Modality": "SEG"}).items():
            if info["StudyInstanceUID"] not in studies:
                continue
            count = int(info["NumberOfSeriesRelatedInstances"] or 0)
            before = seen.get(series)
            if before is not None and before[0] == count and count > 0:
                found = before[1]
            else:
                headers = self._client.headers(info["StudyInstanceUID"], series)
                found = [item for item in (look_at(header, self._organs()) for header in headers) if item is not None]
                self._records.note_seen(series, count, found)
            for item in found:
                newer = item.image not in latest or item.made > latest[item.image].made
                if item.image in images and item.instance not in refused and newer:
                    latest[item.image] = item
        return latest
