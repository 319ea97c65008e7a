"""Leases, skips, reviews, and the order of images."""

from __future__ import annotations

import json

import pytest
from swin_umamba.errors import InputError

from monailabel_app.strategies import First, RandomImage, Uncertainty
from monailabel_app.worklist import Worklist, progress_of

IMAGES = [f"image_{number}" for number in range(6)]


class Store:
    """Images without a final label."""

    def get_unlabeled_images(self):
        return list(reversed(IMAGES))


def test_a_lease_expires(tmp_path):
    worklist = Worklist(tmp_path, lease_seconds=1000)
    assert worklist.take(IMAGES[:1], "a") == "image_0"
    assert worklist.take(IMAGES[:1], "b") is None
    assert Worklist(tmp_path, lease_seconds=-1).take(IMAGES[1:2], "a") == "image_1"  # expired as it is given
    assert worklist.take(IMAGES[1:2], "b") == "image_1"


def test_someone_without_a_name_never_gets_what_another_has(tmp_path):
    worklist = Worklist(tmp_path)
    assert [worklist.take(IMAGES, "") for _ in range(2)] == ["image_0", "image_1"]


def test_own_lease_comes_first_while_it_is_wanted(tmp_path):
    worklist = Worklist(tmp_path)
    assert worklist.take(["image_3"], "a") == "image_3"
    assert worklist.take(IMAGES, "a") == "image_3"
    worklist.corrected("image_3", "a")
    assert worklist.take(IMAGES[:3], "a") == "image_0"


def test_states(tmp_path):
    worklist = Worklist(tmp_path)
    worklist.corrected("image_0", "a")
    worklist.corrected("image_1", "b")
    worklist.reviewed("image_1", "c")
    states = worklist.states(final=IMAGES[:2], automatic=IMAGES[:3], images=IMAGES[:4])
    assert [states[image]["state"] for image in IMAGES[:4]] == ["corrected", "reviewed", "automatic", "unlabelled"]
    assert progress_of(states) == {
        "total": 4,
        "unlabelled": 1,
        "automatic": 1,
        "corrected": 1,
        "reviewed": 1,
        "people": {
            "a": {"corrected": 1, "reviewed": 0},
            "b": {"corrected": 1, "reviewed": 0},
            "c": {"corrected": 0, "reviewed": 1},
        },
    }
    worklist.corrected("image_1", "a")  # a correction takes the review back
    assert worklist.states(IMAGES[:2], [], IMAGES[:2])["image_1"]["state"] == "corrected"


def test_a_review_needs_a_name(tmp_path):
    with pytest.raises(InputError, match="who"):
        Worklist(tmp_path).reviewed("image_0", "")


def test_orders(tmp_path):
    worklist = Worklist(tmp_path)
    assert First(worklist)({"client_id": "a"}, Store()) == {"id": "image_0"}
    assert First(worklist)({"client_id": "b"}, Store()) == {"id": "image_1"}
    orders = {tuple(RandomImage(worklist).order(IMAGES, who)) for who in "abc"}
    assert len(orders) == 3
    assert RandomImage(worklist).order(IMAGES, "a") == RandomImage(worklist).order(IMAGES[::-1], "a")


def test_uncertainty_order(tmp_path):
    strategy = Uncertainty(Worklist(tmp_path), tmp_path)
    assert strategy.order(IMAGES[::-1], "a") == IMAGES  # nothing known yet: by name
    (tmp_path / "uncertainty.json").write_text(json.dumps({"images": {"image_4": 0.3, "image_2": 0.5, "image_5": 0.0}}))
    assert strategy.order(IMAGES, "a")[:4] == ["image_2", "image_4", "image_5", "image_0"]
    (tmp_path / "uncertainty.json").write_text("{")
    assert sorted(strategy.order(IMAGES, "a")) == IMAGES
