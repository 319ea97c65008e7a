"""Leases, skips, reviews, and the order of images."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from swin_umamba.errors import InputError

from monailabel_app.strategies import First, RandomImage, Uncertainty
from monailabel_app.uncertainty import Uncertainties
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


def test_people_who_ask_at_the_same_time_get_different_images(tmp_path):
    """Each by a connection of its own, as requests have."""
    images, together = [f"image_{number:02}" for number in range(24)], threading.Barrier(8)

    def ask(number):
        worklist = Worklist(tmp_path)
        together.wait(30)
        return [worklist.take(images, f"{number} {turn}") for turn in range(3)]

    Worklist(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        taken = [image for found in pool.map(ask, range(8)) for image in found]
    assert sorted(taken) == images


def test_who_asks_again_gets_the_next_and_the_first_at_the_end(tmp_path):
    """3D Slicer has no button to skip: asking for another image passes this one over."""
    worklist = Worklist(tmp_path)
    assert [worklist.take(IMAGES[:3], "a") for _ in range(5)] == [
        *("image_0", "image_1", "image_2"),
        *("image_0", "image_1"),
    ]
    assert worklist.take(IMAGES[:3], "b") == "image_0"  # passed over by a, wanted by b
    worklist.corrected("image_2", "b")
    assert worklist.take(["image_1", "image_2"], "a") == "image_2"  # a label takes the pass back


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
    table = Uncertainties(tmp_path)
    strategy = Uncertainty(Worklist(tmp_path), table)
    assert strategy.order(IMAGES[::-1], "a") == IMAGES  # nothing known yet: by name
    for image, value in {"image_4": 0.3, "image_2": 0.5, "image_5": 0.0, "image_1": None}.items():
        table.put(image, value, "0.1.0")
    assert strategy.order(IMAGES, "a") == ["image_2", "image_4", "image_5", "image_0", "image_1", "image_3"]
    assert table.pending(IMAGES, "0.1.0") == ["image_0", "image_3"]
    assert table.pending(IMAGES, "0.1.1")[:2] == ["image_0", "image_3"]  # never seen before seen by another version
    (tmp_path / "uncertainty.json").write_text("{")
    assert sorted(strategy.order(IMAGES, "a")) == IMAGES
