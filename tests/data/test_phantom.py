"""Phantoms: the same from one seed, anatomically on the right sides, and not to be told voxel by voxel."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from swin_umamba.data import load_datalist, make_phantom, write_phantoms
from swin_umamba.data.labels import ABDOMEN_MRI, label_table
from swin_umamba.data.phantom import GRID, ORIENTATIONS
from swin_umamba.errors import InputError

IDS = label_table(ABDOMEN_MRI)
SMALL = (24, 24, 10)
MIN_VOXELS = 60  # of an organ; the smallest are the adrenal glands
WARP = 3 * 3 * 2**0.5  # mm; three standard deviations of the difference of two warps of 3 mm, drawn on the stored grid


def places(label: np.ndarray, affine: np.ndarray, organ: str) -> np.ndarray:
    """Return the organ's voxels in the patient's millimetres, (N, 3), RAS+: x grows to the patient's right."""
    return np.argwhere(label == IDS[organ]) @ affine[:3, :3].T + affine[:3, 3]


def test_one_seed_gives_one_phantom(phantoms):
    for again, first in zip(make_phantom(3), phantoms[3], strict=True):
        np.testing.assert_array_equal(again, first)


def test_other_seeds_give_other_phantoms(phantoms):
    for index in range(3):  # image, label, affine
        assert len({phantom[index].tobytes() for phantom in phantoms.values()}) == len(phantoms)


def test_arrays_are_as_documented(phantoms):
    for image, label, affine in phantoms.values():
        assert (image.shape, label.shape, affine.shape) == (GRID, GRID, (4, 4))
        assert (image.dtype, label.dtype) == (np.int16, np.uint8)
        assert image.min() >= 0
        assert 100 <= image.max() <= 4000
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        assert ((spacing > 3) & (spacing < 6.5)).all()


@pytest.mark.parametrize("seed", range(8))
def test_every_organ_is_there(phantoms, seed):
    counts = np.bincount(phantoms[seed][1].reshape(-1), minlength=14)
    assert len(counts) == 14
    assert {organ: counts[number] for organ, number in IDS.items() if counts[number] < MIN_VOXELS} == {}


@pytest.mark.parametrize("seed", range(8))
def test_sides_are_the_patients(phantoms, seed):
    _, label, affine = phantoms[seed]
    x, y, z = (
        {organ: places(label, affine, organ)[:, axis].mean() for organ in IDS} for axis in range(3)
    )  # right, front, head
    assert x["right kidney"] > x["left kidney"] + 60
    assert x["right adrenal gland"] > x["left adrenal gland"]
    assert x["liver"] > x["stomach"] > x["spleen"]
    assert x["inferior vena cava"] > x["aorta"]
    assert x["gallbladder"] > x["spleen"]
    assert y["liver"] > y["right kidney"]
    assert z["liver"] > z["right kidney"]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_phantom_is_stored_in_the_orientation_asked_for(orientation):
    _, label, affine = make_phantom(5, grid=(48, 48, 16), orientation=orientation)
    assert "".join(nibabel.aff2axcodes(affine)) == orientation
    for organ in ("liver", "right kidney"):
        assert places(label, affine, organ)[:, 0].mean() > places(label, affine, "left kidney")[:, 0].mean() + 60


@pytest.mark.parametrize("seed", [6, 7])
def test_orientations_show_one_anatomy_but_for_its_fine_warp(seed):
    centres = {}
    for orientation in ORIENTATIONS:
        _, label, affine = make_phantom(seed, orientation=orientation)
        centres[orientation] = {organ: places(label, affine, organ).mean(0) for organ in IDS}
    for orientation, own in centres.items():
        for organ, centre in own.items():
            gap = np.abs(centre - centres["RAS"][organ]).max()
            assert gap < WARP, (orientation, organ, gap)


def features(phantom: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return (z-scored intensity, x, y, z in mm) (N, 4) and labels (N,) of all voxels."""
    image, label, affine = phantom
    voxels = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1).reshape(-1, 3)  # (X, Y, Z, 3)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    intensity = (image - image.mean()) / image.std()
    return np.column_stack((intensity.reshape(-1), world)).astype(np.float32), label.reshape(-1)


def voxelwise_dice(phantoms: dict[int, tuple], training: list[int], test: list[int]) -> float:
    """Return the mean Dice over organs and cases of a classifier that sees one voxel's intensity and place."""
    rng = np.random.default_rng(0)
    parts = []
    for seed in training:
        x, y = features(phantoms[seed])
        drawn = [rng.permutation(np.flatnonzero(y == k))[: 600 if k else 15000] for k in range(14)]
        parts.append((x[np.concatenate(drawn)], y[np.concatenate(drawn)]))
    forest = RandomForestClassifier(30, min_samples_leaf=5, n_jobs=2, random_state=0)
    forest.fit(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]))
    dice = []
    for seed in test:
        x, y = (part[::3] for part in features(phantoms[seed]))  # a third of the voxels tells as much
        found = forest.predict(x)
        for number in IDS.values():
            mine, true = found == number, y == number
            dice.append(2 * (mine & true).sum() / (mine.sum() + true.sum()))
    return float(np.mean(dice))


def test_intensity_and_place_of_a_voxel_do_not_tell_its_organ(phantoms):
    assert voxelwise_dice(phantoms, training=list(range(8)), test=[8, 9, 10]) < 0.5


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of two phantoms and its data list."""
    folder = tmp_path_factory.mktemp("phantoms")
    return folder, write_phantoms(folder, training=1, validation=0, test=1, seed=2, workers=1)


def test_written_phantoms_are_those_of_their_seeds(written, phantoms):
    folder, datalist = written
    for section, seed in (("training", 2), ("test", 3)):
        (item,) = load_datalist(datalist, section)
        image, label, affine = phantoms[seed]
        stored = nibabel.load(item["image"])
        np.testing.assert_array_equal(np.asarray(stored.dataobj), image)
        np.testing.assert_array_equal(np.asarray(nibabel.load(item["label"]).dataobj), label)
        np.testing.assert_allclose(stored.affine, affine, atol=1e-4)
        assert item["labelled"] == list(range(1, 14))


def files_of(folder) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.*"))}


def test_phantoms_are_made_once(written):
    folder, datalist = written
    before = files_of(folder)
    assert write_phantoms(folder, training=1, validation=0, test=1, seed=2, workers=1) == datalist
    assert files_of(folder) == before
    assert set(before) == {"datalist.json", *(f"phantom_000{seed}.nii.gz" for seed in (2, 3))}


@pytest.mark.parametrize("request_", [{"seed": 4}, {"seed": 2, "validation": 1}])
def test_another_request_makes_them_anew(tmp_path, monkeypatch, request_):
    made = spy(monkeypatch)
    write_phantoms(tmp_path, training=1, validation=0, test=0, seed=2)
    assert made == [2]
    write_phantoms(tmp_path, **{"training": 1, "validation": 0, "test": 0, **request_})
    plain = json.loads((tmp_path / "datalist.json").read_text())
    assert plain["training"][0]["seed"] == request_["seed"]
    assert len(plain["validation"]) == request_.get("validation", 0)
    assert made[1:] == [item["seed"] for part in ("training", "validation") for item in plain[part]]


def test_a_lost_file_is_made_anew(tmp_path, monkeypatch):
    made = spy(monkeypatch)
    write_phantoms(tmp_path, training=2, validation=0, test=0)
    (tmp_path / "labels/phantom_0001.nii.gz").unlink()
    datalist = write_phantoms(tmp_path, training=2, validation=0, test=0)
    assert made[:2] == [0, 1]
    assert 1 in made[2:]
    assert len(load_datalist(datalist, "training")) == 2


class InThisProcess:
    """Stands in for the pool of processes, in which nothing could be replaced."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    map = staticmethod(map)


def spy(monkeypatch) -> list[int]:
    """Let phantoms be small and made in this process; the list returned collects their seeds."""
    made: list[int] = []

    def small(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        made.append(seed)
        return make_phantom(seed, grid=SMALL)

    monkeypatch.setattr("swin_umamba.data.phantom_files.ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr("swin_umamba.data.phantom_files.make_phantom", small)
    return made


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"training": -1}, "training is -1; legal: 0 or more"),
        ({"seed": -3}, "seed is -3; legal"),
        ({"training": 0, "validation": 0, "test": 0}, "no case in any section"),
    ],
)
def test_requests_that_cannot_be(tmp_path, counts, said):
    with pytest.raises(InputError, match=said):
        write_phantoms(tmp_path, **counts)
