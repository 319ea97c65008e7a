"""What we ask of the PACS, over DICOMweb: lists of series, their instances, headers; and storing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests
from monailabel.datastore.dicom import DICOMwebClientX
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from urllib3.exceptions import ProtocolError

from monailabel_app.pacs.connection import PacsConnection, PacsError

PAGE = 500  # series asked for at once
FIELDS = {  # of a series: what is kept of it, and the attribute
    "PatientID": "00100020",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
    "StudyDate": "00080020",
    "NumberOfSeriesRelatedInstances": "00201209",
}
ANSWER = TypeVar("ANSWER")


class PacsClient:
    """A DICOMweb server.

    Every method raises `PacsError` if the server cannot be reached, refuses, or answers what is no DICOMweb.

    Args:
        connection: how it is reached.
    """

    def __init__(self, connection: PacsConnection) -> None:
        self.url = connection.url
        self._web: Any = DICOMwebClientX(url=connection.url, session=connection.session())
        self._web.set_http_retry_params(retry=False)

    def series(self, filters: Mapping[str, Any], study: str | None = None) -> dict[str, dict[str, str]]:
        """Return {series UID: its `FIELDS`} of all series that a DICOMweb query finds, page by page.

        Some servers send fewer than they are asked for and some forget where they were, so the last page is the one
        that brings nothing new.

        Args:
            filters: attributes by keyword, or by tag such as 00080060; values may hold * and ?.
            study: UID of the only study to look at.
        """
        found: dict[str, dict[str, str]] = {}
        received = 0
        while True:
            page = self._search(filters, study, limit=PAGE, offset=received)
            new = {item["SeriesInstanceUID"]: item for item in page if item["SeriesInstanceUID"] not in found}
            if not new:
                return {uid: item for uid, item in found.items() if _fits(item, filters)}
            found.update(new)
            received += len(page)

    def one_series(self, uid: str, filters: Mapping[str, Any]) -> dict[str, str] | None:
        """Return the `FIELDS` of one series, or None if the query does not find it."""
        page = self._search({**filters, "SeriesInstanceUID": uid})
        return next((item for item in page if item["SeriesInstanceUID"] == uid and _fits(item, filters)), None)

    def _search(self, filters: Mapping[str, Any], study: str | None = None, **window: int) -> list[dict[str, str]]:
        def search() -> list[dict[str, str]]:
            found = self._web.search_for_series(
                study, fields=list(FIELDS.values()), search_filters=dict(filters), **window
            )
            return [_plain(Dataset.from_json(item)) for item in found]

        return self._ask(search)

    def headers(self, study: str, series: str) -> list[Dataset]:
        """Return the instances of a series without their pixels."""
        ask = functools.partial(self._web.retrieve_series_metadata, study, series)
        return self._ask(lambda: [Dataset.from_json(item) for item in ask()])

    def fetch(self, study: str, series: str, folder: Path) -> int:
        """Write the instances of a series into a folder, not compressed; returns how many there are."""

        def write() -> int:
            count = 0
            for instance in self._web.iter_series(study, series):
                instance.save_as(folder / f"{count:06d}.dcm", write_like_original=False)
                count += 1
            return count

        return self._ask(write)

    def instance(self, study: str, series: str, instance: str) -> Dataset:
        """Return one instance."""
        return self._ask(lambda: self._web.retrieve_instance(study, series, instance))

    def store(self, datasets: Iterable[Dataset]) -> None:
        """Store instances, all of them."""
        instances = list(datasets)
        answer = self._ask(lambda: self._web.store_instances(instances))
        failed = answer.get("FailedSOPSequence") or []
        if failed:
            reason = failed[0].get("FailureReason", "unknown")
            raise PacsError(f"the PACS at {self.url} did not store {len(failed)} instances: failure reason {reason}")

    def _ask(self, request: Callable[[], ANSWER]) -> ANSWER:
        try:
            try:
                return request()
            except requests.ConnectionError as error:
                if not (error.args and isinstance(error.args[0], ProtocolError)):
                    raise
                return request()  # the connection was kept from an earlier one, and the PACS closed it at this moment
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "?"
            hint = "; check the server's credentials for it" if status in (401, 403) else ""
            raise PacsError(f"the PACS at {self.url} refuses: HTTP {status}{hint}") from error
        except (requests.RequestException, OSError) as error:
            raise PacsError(f"the PACS at {self.url} does not answer: {type(error).__name__}", status=503) from error
        except (ValueError, LookupError, AttributeError, InvalidDicomError) as error:
            raise PacsError(f"the PACS at {self.url} answers what is no DICOMweb: {type(error).__name__}") from error


def _plain(header: Dataset) -> dict[str, str]:
    return {key: str(header.get(key) or "") for key in FIELDS} | {"SeriesInstanceUID": str(header.SeriesInstanceUID)}


def _fits(item: Mapping[str, str], filters: Mapping[str, Any]) -> bool:
    """Tell whether a series has the modality that was asked for; a server may ignore what it does not know."""
    wanted = str(filters.get("Modality") or filters.get(FIELDS["Modality"]) or "")
    return not wanted or any(sign in wanted for sign in "*?,\\") or item["Modality"] in ("", wanted)
