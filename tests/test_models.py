"""Trained models: written, described, checked and loaded."""

from __future__ import annotations

import dataclasses
import os
import pickle

import pytest
import torch
import yaml
from helpers_bundle import ROOT
from swin_umamba.errors import InputError
from swin_umamba.models import (
    ModelSpec,
    build_described_network,
    load_model,
    mirror_axes,
    read_spec,
    save_model,
    write_spec,
)

LABELS = {"liver": 1, "spleen": 2}
SHIPPED = ROOT / "models" / "chaos_mri"
NETWORK = {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 1}}


def make_spec(**changes) -> ModelSpec:
    return ModelSpec(**{"name": "toy", "network": NETWORK, "labels": LABELS, "spacing": (1.5, 1.25), **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model's folder as training leaves it, and its network."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    torch.manual_seed(0)
    network = build_described_network(make_spec()).eval()
    save_model(folder, network, make_spec(roi_size=(96, 64), licence="CC0-1.0", scores={"dice": 0.5}))
    return folder, network


def copy_of(folder, target):
    target.mkdir()
    for name in os.listdir(folder):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def edit(folder, **changes):
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return folder


def test_round_trip(trained):
    folder, network = trained
    model = load_model(folder)
    assert sorted(os.listdir(folder)) == ["model.pt", "model.yaml"]
    assert model.spec.labels == LABELS
    assert list(model.spec.labels) == ["liver", "spleen"]
    assert model.spec.spacing == (1.5, 1.25)
    assert model.spec.roi_size == (96, 64)
    assert model.spec.scores == {"dice": 0.5}
    assert not model.network.training
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model.network(image), network(image))


def test_weights_are_a_bare_state_dict(trained):
    folder, network = trained
    state = torch.load(folder / "model.pt", weights_only=True)
    assert list(state) == list(network.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"liver": 1, "spleen": 3}}, "ids must be 1 to 2 without gaps, not .1, 3."),
        ({"labels": {"liver": "one"}}, "labels.liver: 'one' is not of type 'integer'"),
        ({"spacing": [1.0, -1.0]}, "spacing.1: -1.0"),
        ({"orientation": "LPS"}, "orientation: 'LPS' is not one of"),
        ({"spcaing": [1, 1]}, "'spcaing' was unexpected.*legal keys are name, version"),
        ({"name": "../escape"}, "name: '../escape' does not match"),
        ({"network": {"name": "swin_umamba_x"}}, "swin_umamba_x"),
        ({"network": {"name": "swin_umamba_d_tiny", "arguments": {"in_chanels": 1}}}, "in_chanels"),
        (
            {"network": {**NETWORK, "arguments": {"in_channels": 1, "out_channels": 5}}},
            "out_channels is 5, but 2 labels",
        ),
        ({"labels": {"liver": 1, "spleen": 2, "stomach": 3}}, "4"),
    ],
)
def test_bad_description_is_named(trained, tmp_path, changes, message):
    folder = edit(copy_of(trained[0], tmp_path / "bad"), **changes)
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_malicious_description_executes_nothing(trained, tmp_path):
    folder = copy_of(trained[0], tmp_path / "bad")
    mark = tmp_path / "executed"
    (folder / "model.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(InputError, match="not plain YAML data"):
        load_model(folder)
    edited = edit(copy_of(trained[0], tmp_path / "target"), description=f"$__import__('os').mkdir('{mark}')")
    edit(edited, training={"_target_": "os.mkdir", "path": str(mark)})
    assert load_model(edited).spec.description.startswith("$")
    assert not mark.exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_malicious_weights_execute_nothing(trained, tmp_path):
    folder = edit(copy_of(trained[0], tmp_path / "bad"), sha256="")
    mark = tmp_path / "executed"
    torch.save({"weight": Bomb(str(mark))}, folder / "model.pt")
    with pytest.raises(InputError, match="model.pt"):
        load_model(folder)
    (folder / "model.pt").write_bytes(pickle.dumps(Bomb(str(mark))))
    with pytest.raises(InputError, match="model.pt"):
        load_model(folder)
    assert not mark.exists()


def test_damaged_weights_are_noticed(trained, tmp_path):
    folder = copy_of(trained[0], tmp_path / "bad")
    whole = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not the file that model.yaml describes"):
        load_model(folder)
    edit(folder, sha256="")
    with pytest.raises(InputError, match="model.pt"):
        load_model(folder)


def test_missing_files(trained, tmp_path):
    with pytest.raises(InputError, match="has no model.yaml: train one first.*beside it there are: toy"):
        load_model(trained[0].parent / "other")
    write_spec(tmp_path / "empty", make_spec())
    with pytest.raises(InputError, match="has no model.pt"):
        load_model(tmp_path / "empty")


def test_description_is_checked_when_made():
    with pytest.raises(InputError, match="roi_size.0: 8 is less than the minimum of 32"):
        make_spec(roi_size=(8, 64))


def test_slices_are_framed_where_training_may_have_framed_them():
    def framed(width, **changes):
        images = {"spacing": [[1.5, 3.0], [1.25, 2.5], [4, 4]], "field_of_view": [[width, 400], [80, 90], [40, 50]]}
        return make_spec(roi_size=(96, 64), training={"images": images}, **changes).framed

    assert make_spec().framed  # nothing is known of the images
    assert make_spec(training={"images": {"count": 3}}).framed
    assert [framed(width) for width in (140, 144, 300)] == [True, False, False]  # 96 pixels of 1.5 mm
    assert [framed(width, spacing=None) for width in (144, 287)] == [True, True]
    parts = [{"name": "a", "training": {"images": {}}}, {"name": "b", "training": read_spec(SHIPPED).training}]
    assert make_spec(roi_size=(256, 256), spacing=(1.25, 1.25), training={"members": parts}).framed
    assert not make_spec(roi_size=(256, 256), spacing=(1.25, 1.25), training={"members": parts[1:]}).framed


def test_failed_write_leaves_the_old_model(trained, tmp_path, monkeypatch):
    folder = copy_of(trained[0], tmp_path / "kept")
    before = (folder / "model.pt").read_bytes()

    def full_disk(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(folder, trained[1], make_spec())
    monkeypatch.undo()
    assert (folder / "model.pt").read_bytes() == before
    assert load_model(folder).spec == dataclasses.replace(read_spec(trained[0]))


def test_mirror_images_are_averaged_only_along_axes_that_training_mirrored():
    assert mirror_axes(make_spec(mirror_axes=[1]), True) == (1,)
    assert mirror_axes(make_spec(mirror_axes=[0, 1]), False) == ()
    assert mirror_axes(make_spec(), False) == ()
    with pytest.raises(InputError, match="mirror true: model 'toy' has learnt from no mirror images; legal: false"):
        mirror_axes(make_spec(), True)
