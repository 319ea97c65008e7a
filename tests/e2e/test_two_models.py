"""Two models whose label ids differ, on one series: an organ keeps its name, in the viewer and in the PACS."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from helpers_ohif import TOKEN, TOOLS, Reader, count, reader
from helpers_pacs import ORGANS
from helpers_server import serve
from playwright.sync_api import expect
from swin_umamba.models import load_model, save_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TURNED = {name: len(ORGANS) + 1 - number for name, number in ORGANS.items()}  # 4 3 2 1 in place of 1 2 3 4


@pytest.fixture
def models(seeing_models, tmp_path):
    """The model that sees the organs, and one that sees the same under other ids."""
    shutil.copytree(seeing_models, tmp_path / "models")
    found = load_model(seeing_models / "seeing", device="cpu")
    order = [0, *(ORGANS[name] for name in sorted(TURNED, key=TURNED.__getitem__))]
    state = found.network.state_dict()
    heads = [key for key in state if key.startswith("out_layers.")]
    assert heads
    found.network.load_state_dict({**state, **{key: state[key][order] for key in heads}})
    found.spec.name, found.spec.labels = "turned", TURNED
    save_model(tmp_path / "models" / "turned", found.network, found.spec)
    return tmp_path / "models"


@pytest.fixture
def person(clinic, logged_in, models, tmp_path):
    """Somebody at a server with both models, on the PACS of the clinic."""
    (tmp_path / "token").write_text(TOKEN)
    more = {"data_dir": tmp_path / "data", **clinic.connection.as_environment()}
    with (
        serve(clinic.connection.url, models, "--token-file", str(tmp_path / "token"), **more) as server,
        reader(server, logged_in) as found,
    ):
        found.forget()
        yield found
        assert not found.errors


def segment_by(person: Reader, image: str, model: str) -> dict[str, np.ndarray]:
    """Segment by a model and return the slices of each organ by its name, as the viewer holds them."""
    person.page.select_option("[data-cy=ml-model]", model)
    with person.page.expect_response(lambda answer: f"{image}/segment" in answer.url) as answer:
        person.segment()
    person.settled()  # "Segmented." may still be what was said of the model before
    expect(person.part("badge")).to_contain_text(f"{model} 0.1.0")
    expect(person.part("organ")).to_have_count(len(ORGANS))
    numbers = person.page.evaluate(NUMBERS)
    assert sorted(numbers) == sorted(ORGANS)
    voxels = np.stack([voxels for _, voxels in sorted(person.voxels().items())])
    found = {name: voxels == number for name, number in numbers.items()}
    for name, organ in organs_of(answer.value.json(), person.voxels(), model).items():
        np.testing.assert_array_equal(found[name], organ, err_msg=name)
    return found


def organs_of(label: dict, like: dict[str, np.ndarray], model: str) -> dict[str, np.ndarray]:
    """Return the slices of each organ by its name, as the server gives them in the model's own ids."""
    ids = {entry["name"]: entry["id"] for entry in label["segments"]}
    assert ids == {"seeing": ORGANS, "turned": TURNED}[model]
    shapes = {uid: voxels.shape for uid, voxels in like.items()}
    slices = {entry["uid"]: np.repeat(entry["runs"][1::2], entry["runs"][0::2]) for entry in label["slices"]}
    voxels = np.stack([slices[uid].reshape(shapes[uid]) for uid in sorted(shapes)])
    return {name: voxels == number for name, number in ids.items()}


NUMBERS = """() => {  // of OHIF's own list
  const [{ segments }] = window.services.segmentationService.getSegmentations();
  return Object.fromEntries(Object.values(segments).filter(Boolean).map(one => [one.label, one.segmentIndex]));
}"""
LISTED = """uids => {  // in OHIF's own list of stored ones
  const all = window.services.displaySetService.getActiveDisplaySets();
  const sets = all.filter(({ Modality, SOPInstanceUID }) => Modality === 'SEG' && SOPInstanceUID);
  return JSON.stringify(sets.map(({ SOPInstanceUID }) => SOPInstanceUID)) === JSON.stringify(uids);
}"""


@pytest.mark.parametrize("first", ["seeing", "turned"])
def test_an_organ_keeps_its_name(clinic, person: Reader, first: str):
    image = clinic.series(TOOLS)
    person.open(clinic.study(TOOLS))
    found = segment_by(person, image, first)
    earlier = store(clinic, person)
    again = segment_by(person, image, {"seeing": "turned", "turned": "seeing"}[first])
    for name, organ in found.items():  # of classes that are equal to the last bit the first one wins: a few voxels
        shared = {other: int((organ & voxels).sum()) for other, voxels in again.items()}
        assert max(shared, key=shared.__getitem__) == name
        assert shared[name] > 0
    person.page.locator("[data-organ=spleen] .name").click()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    held = person.voxels()
    numbers = person.page.evaluate(NUMBERS)
    assert count(held, numbers["spleen"]) > int(again["spleen"].sum())
    stored = store(clinic, person)
    assert_stored_by_name(stored, held, numbers)
    assert stored.SeriesInstanceUID != earlier.SeriesInstanceUID  # another model is other equipment
    assert stored.InstanceNumber == earlier.InstanceNumber + 1
    assert earlier.SOPInstanceUID in [item.ReferencedSOPInstanceUID for item in stored.ReferencedImageSequence]
    person.page.wait_for_function(LISTED, arg=[str(stored.SOPInstanceUID)])
    assert len(clinic.segmentations(TOOLS)) > 1
    person.open(clinic.study(TOOLS))  # the PACS gives all of them again
    person.page.wait_for_function(LISTED, arg=[str(stored.SOPInstanceUID)])


def store(clinic, person: Reader) -> pydicom.Dataset:
    """Store, and return what the PACS has then."""
    with person.page.expect_response(lambda answer: answer.request.method == "PUT") as answer:
        person.store()
    assert answer.value.json()["pacs"] == "stored"
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    return clinic.segmentation(TOOLS)


def assert_stored_by_name(stored, held: dict[str, np.ndarray], numbers: dict[str, int]) -> None:
    """Compare a DICOM SEG with what the viewer held, organ by organ."""
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in stored.SegmentSequence}
    assert sorted(names.values()) == sorted(ORGANS)
    frames = stored.pixel_array.reshape(-1, stored.Rows, stored.Columns) > 0
    seen = dict.fromkeys(numbers, 0)
    for frame, group in zip(frames, stored.PerFrameFunctionalGroupsSequence, strict=True):
        uid = str(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        name = names[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        np.testing.assert_array_equal(frame, held[uid] == numbers[name])
        seen[name] += int(frame.sum())
    assert seen == {name: count(held, number) for name, number in numbers.items()}
