"""The requests of the viewer's panel, sent without a browser: what is illegal is named, and changes nothing."""

from __future__ import annotations

import pytest
from helpers_ohif import ODD, SPARE
from helpers_pacs import ORGANS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def label(clinic):
    """An automatic label of the spare study."""
    return clinic.ask("POST", f"/viewer/images/{clinic.series(SPARE)}/segment", json={}).json()


def submission(label, **more):
    names = [{"id": entry["id"], "name": entry["name"]} for entry in label["segments"]]
    return {"client_id": "Roe^Jane", "segments": names, "slices": label["slices"], **more}


def test_overview_says_what_the_panel_shows(clinic):
    answer = clinic.ask("GET", "/viewer/").json()
    (model,) = answer["models"]
    assert {entry["name"]: entry["id"] for entry in model["segments"]} == ORGANS
    assert all(len(entry["color"]) == 3 for entry in model["segments"])
    assert (model["licence"], model["waits"]) == ("unknown", None)
    assert answer["training"]["failed"] is None
    assert sorted(answer["strategies"]) == ["first", "random", "uncertainty"]
    assert answer["training"]["running"] is False
    assert "research" in answer["note"]


def test_automatic_label_is_kept_and_said_to_be_automatic(clinic, label):
    state = clinic.ask("GET", f"/viewer/images/{clinic.series(SPARE)}").json()
    assert state["study"] == clinic.study(SPARE)
    assert (state["label"]["tag"], state["label"]["by"], state["label"]["model"]) == ("original", None, "seeing")
    again = clinic.ask("GET", f"/viewer/images/{clinic.series(SPARE)}/label").json()
    assert again["slices"] == label["slices"]


def test_doubts_about_an_automatic_label_are_told_again(clinic, label):
    again = clinic.ask("GET", f"/viewer/images/{clinic.series(SPARE)}/label").json()
    assert set(label["confidence"]) == set(ORGANS)
    assert all(0 <= value <= 1 for value in label["confidence"].values())
    assert [again[key] for key in ("confidence", "warnings")] == [label[key] for key in ("confidence", "warnings")]


def test_a_segmentation_that_does_not_run_cannot_be_stopped(clinic, label):
    assert clinic.ask("DELETE", "/viewer/runs/none").status_code == 404
    answer = clinic.ask("POST", f"/viewer/images/{clinic.series(SPARE)}/segment", json={"run": ""})
    assert (answer.status_code, "run ''" in answer.text) == (400, True)


def test_some_slices_are_segmented_and_not_kept(clinic, label):
    wanted = [{"uid": entry["uid"], "frame": entry["frame"]} for entry in label["slices"][3:5]]
    image = clinic.series(SPARE)
    answer = clinic.ask("POST", f"/viewer/images/{image}/segment", json={"slices": wanted}).json()
    assert [entry["uid"] for entry in answer["slices"]] == [entry["uid"] for entry in wanted]
    kept = clinic.ask("GET", f"/viewer/images/{image}/label").json()
    assert kept["slices"] == label["slices"]


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"client_id": " "}, 400, "client_id ' ': legal: your name"),
        ({"client_id": 7}, 400, "client_id '7'"),
        ({"segments": None}, 400, "segments: legal: a list of {id, name}"),
        ({"segments": [{"id": 0, "name": "liver"}]}, 400, "id 0: legal: a whole number from 1 to 255"),
        ({"segments": [{"id": True, "name": "liver"}]}, 400, "legal: a whole number"),
        ({"segments": [{"id": 1, "name": ""}]}, 400, "name '': legal: 1 to 64"),
        ({"segments": [{"id": 1, "name": "liver"}, {"id": 2, "name": "Liver"}]}, 400, "name 'liver' is there twice"),
        ({"segments": [{"id": 1, "name": "liver"}, {"id": 1, "name": "spleen"}]}, 400, "id 1 is there twice"),
        ({"segments": [{"id": 1, "name": "liver"}]}, 400, "are no segments; legal: [0, 1]"),
        ({"slices": []}, 400, "12 of 12 are missing"),
        ({"slices": "all"}, 400, "slices: legal"),
        ({"model": "other"}, 404, "unknown model 'other'"),
        ({"base": "0123"}, 409, "the label was removed"),
    ],
)
def test_illegal_submission_is_named_and_stores_nothing(clinic, label, more, status, message):
    image = clinic.series(SPARE)
    answer = clinic.ask("PUT", f"/viewer/images/{image}/label", json=submission(label, **more))
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert clinic.ask("GET", f"/viewer/images/{image}").json()["label"]["tag"] == "original"


def test_slices_of_another_series_are_named(clinic, label):
    answer = clinic.ask("PUT", f"/viewer/images/{clinic.series(ODD)}/label", json=submission(label))
    assert answer.status_code == 400
    assert f"no slice '{label['slices'][0]['uid']}'" in answer.json()["detail"]
    wanted = [{"uid": label["slices"][0]["uid"], "frame": 1}]
    answer = clinic.ask("POST", f"/viewer/images/{clinic.series(ODD)}/segment", json={"slices": wanted})
    assert answer.status_code == 400


@pytest.mark.parametrize("image", ["1.2.3", "..%2F..%2Fetc", "%00"])
def test_unknown_image_is_named(clinic, image):
    for method, path in (("GET", ""), ("GET", "/label"), ("POST", "/segment"), ("PUT", "/label")):
        answer = clinic.ask(
            method, f"/viewer/images/{image}{path}", **({"json": {}} if method in ("POST", "PUT") else {})
        )
        assert answer.status_code in (400, 404), (method, path)


def test_requests_without_the_token_are_refused(clinic):
    import requests

    address = clinic.server.url
    assert requests.get(f"{address}/viewer/", timeout=60).status_code == 401
    page = requests.get(
        f"{address}/ohif/segmentation?StudyInstanceUIDs=1.2",
        headers={"Accept": "text/html"},
        allow_redirects=False,
        timeout=60,
    )
    assert page.status_code == 303
    assert page.headers["location"] == "/login?next=%2Fohif%2Fsegmentation%3FStudyInstanceUIDs%3D1.2"
    for wanted, place in (("/ohif/segmentation?a=1", "/ohif/segmentation?a=1"), ("https://evil.example/", "/ohif/")):
        answer = requests.post(
            f"{address}/login",
            params={"next": wanted},
            data={"token": "a-token-of-tests-0123"},
            allow_redirects=False,
            timeout=60,
        )
        assert (answer.status_code, answer.headers["location"]) == (303, place)
