"""What is asked of a PACS, against one that answers badly."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset

from monailabel_app.pacs import client as client_module
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection, PacsError


def row(number: int, modality: str = "MR") -> dict[str, Any]:
    header = Dataset()
    header.SeriesInstanceUID, header.StudyInstanceUID, header.Modality = f"1.2.{number}", "1.2", modality
    return header.to_json_dict()


class Archive:
    """Stands in for the web client: 7 series, at most so many an answer, or the same answer whatever is asked."""

    def __init__(self, most: int, forgets: bool = False) -> None:
        self.most, self.forgets, self.asked = most, forgets, 0

    def search_for_series(self, study=None, *, limit=None, offset=0, **_: Any) -> list[dict[str, Any]]:
        self.asked += 1
        rows = [row(number) for number in range(7)]
        return rows[: self.most] if self.forgets else rows[offset : offset + min(limit or 99, self.most)]


@pytest.fixture
def client() -> PacsClient:
    return PacsClient(PacsConnection("http://127.0.0.1:1/dicom-web"))


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_all_pages_are_asked_for_also_when_they_are_smaller(client: PacsClient, most: int) -> None:
    client._web = Archive(most)
    assert list(client.series({"Modality": "MR"})) == [f"1.2.{number}" for number in range(7)]


def test_archive_that_forgets_where_it_was_ends(client: PacsClient) -> None:
    client._web = Archive(3, forgets=True)
    assert len(client.series({"Modality": "MR"})) == 3
    assert client._web.asked == 2


def test_archive_that_ignores_the_filter_is_not_believed(client: PacsClient) -> None:
    client._web = Archive(100)
    assert client.series({"Modality": "SEG"}) == {}
    assert len(client.series({"Modality": "M*"})) == 7
    assert client.one_series("1.2.3", {"Modality": "SEG"}) is None
    found = client.one_series("1.2.3", {"Modality": "MR"})
    assert found is not None
    assert found["StudyInstanceUID"] == "1.2"


def test_nobody_listens(client: PacsClient) -> None:
    with pytest.raises(PacsError, match="does not answer: ConnectionError") as caught:
        client.series({})
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("status", "message"), [(401, "HTTP 401; check the server's credentials"), (500, "refuses: HTTP 500$")]
)
def test_refusal_is_told(client: PacsClient, monkeypatch: pytest.MonkeyPatch, status: int, message: str) -> None:
    answer = requests.Response()
    answer.status_code = status
    monkeypatch.setattr(client_module.DICOMwebClientX, "search_for_series", lambda *_, **__: answer.raise_for_status())
    with pytest.raises(PacsError, match=message) as caught:
        client.series({})
    assert caught.value.status == 502


def test_instances_that_were_not_stored_are_told(client: PacsClient, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, answer = Dataset(), Dataset()
    failed.FailureReason = 272
    answer.FailedSOPSequence = [failed]
    monkeypatch.setattr(client_module.DICOMwebClientX, "store_instances", lambda *_, **__: answer)
    with pytest.raises(PacsError, match="did not store 1 instances: failure reason 272"):
        client.store([Dataset()])


def test_connection_that_the_pacs_closed_meanwhile_is_made_again(hasty) -> None:
    found = PacsClient(PacsConnection(f"http://127.0.0.1:{hasty.server_port}/dicom-web"))
    for _ in range(3):
        assert found.series({"Modality": "MR"}) == {}
    assert len(hasty.asked) == 5  # each but the first was asked twice
