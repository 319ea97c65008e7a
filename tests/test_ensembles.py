"""Ensembles: the mean of probabilities, checks of what the members share, and every member's name in the report."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers_bundle import BUNDLE, LABELS, write_cases, write_model
from swin_umamba.ensembles import Ensemble, EnsembleModel, about_model, load_models, model_folders
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.inferers import AxialSliceInferer
from swin_umamba.models import Model
from swin_umamba.workflows import evaluate_model, run_workflow
from torch import nn


class Constant(nn.Module):
    """A network that gives the same logits everywhere."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.view(1, -1, 1, 1).expand(x.shape[0], -1, *x.shape[2:])


def test_probabilities_are_averaged_not_logits():
    """Two are unsure between 0 and 1 (0.4 / 0.6), one is sure of 0: (0.4 + 0.4 + 0.98) / 3 against 0.413."""
    networks = [Constant(*torch.tensor(p).log().tolist()) for p in ([0.4, 0.6], [0.4, 0.6], [0.98, 0.02])]
    mean = Ensemble(networks)(torch.zeros(1, 1, 2, 3)).exp()
    assert mean.shape == (1, 2, 2, 3)
    torch.testing.assert_close(mean[0, :, 0, 0], torch.tensor([1.78 / 3, 1.22 / 3]), rtol=0, atol=1e-6)


def test_one_member_labels_as_it_does_alone():
    torch.manual_seed(0)
    network = nn.Conv2d(1, 4, 3, padding=1)
    volume = torch.randn(1, 1, 20, 18, 7)
    inferer = AxialSliceInferer(roi_size=(16, 16), slab_size=3, mirror_axes=(0,))
    expected = inferer(volume, network)
    assert len(expected.unique()) > 1
    assert torch.equal(inferer(volume, Ensemble([network])), expected)


def test_extreme_logits_stay_finite():
    out = Ensemble([Constant(0.0, -1e4), Constant(-1e4, 0.0)])(torch.zeros(1, 1, 1, 1))
    torch.testing.assert_close(out.exp().flatten(), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("given", "folders"),
    [("a", ["a"]), ("a, b", ["a", "b"]), (["a", "b"], ["a", "b"]), (("a",), ["a"]), ("", [])],
)
def test_names_of_models(given, folders):
    assert [str(folder) for folder in model_folders(given)] == folders


def test_a_folder_with_a_comma_is_one_model(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert model_folders(str(tmp_path / "a,b")) == [tmp_path / "a,b"]


def test_description_names_all_members(tmp_path):
    folders = [
        write_model(tmp_path / f"fold{n}", seed=n, version=f"0.{n}.0", licence=f"L{n}", mirror_axes=axes)
        for n, axes in enumerate(([0, 1], [1], [0, 1]))
    ]
    model = load_models([str(folder) for folder in folders])
    assert isinstance(model, EnsembleModel)
    assert (model.spec.name, model.spec.version, model.spec.licence) == ("tiny_x3", "0.2.0", "L0; L1; L2")
    assert model.spec.mirror_axes == (1,)  # what all have learnt from
    assert model.spec.description == "Mean of the probabilities of tiny 0.0.0, tiny 0.1.0, tiny 0.2.0."
    assert [member["folder"] for member in about_model(model)["members"]] == [str(folder) for folder in folders]
    other = write_model(tmp_path / "other", name="second")
    assert load_models(f"{folders[0]},{other}").spec.name == "tiny-second"
    one = load_models(folders[0])
    assert (type(one), about_model(one)) == (
        Model,
        {"model": "tiny", "model_version": "0.0.0", "licence": "L0"},
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"spacing": (1.0, 1.0)},
            r"other' does not fit .*first': spacing \[1.0, 1.0\], not None; legal in one ensemble",
        ),
        ({"labels": {"liver": 1, "aorta": 2}}, "labels {'liver': 1, 'aorta': 2}, not {'liver': 1, 'spleen': 2}"),
        ({"roi_size": (64, 32)}, r"roi_size \[64, 32\], not \[32, 32\]"),
        ({"network": {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 3}}}, "takes 3 channels, .* 1"),
    ],
)
def test_members_that_do_not_fit(tmp_path, spec, said):
    first = write_model(tmp_path / "first")
    other = write_model(tmp_path / "other", **spec)
    with pytest.raises(InputError, match=said):
        load_models([first, other])


def test_the_same_model_twice_or_none(tmp_path):
    first = write_model(tmp_path / "first")
    with pytest.raises(InputError, match="is named twice"):
        load_models([first, f"{tmp_path}/../{tmp_path.name}/first"])
    with pytest.raises(InputError, match="legal: a folder, or several parted by commas"):
        load_models("")
    with pytest.raises(InputError, match="0 networks"):
        Ensemble([])


def test_inference_and_evaluation_of_an_ensemble(tmp_path):
    datalist = write_cases(tmp_path / "data", {"test": 1})
    folders = [str(write_model(tmp_path / f"fold{n}", seed=n)) for n in range(2)]
    given = {"bundle_root": BUNDLE, "device": "cpu", "picture": False}
    run_workflow(["inference.yaml"], **given, model=folders, dataset_dir=str(datalist.parent / "test0.nii.gz"),
                 output_dir=str(tmp_path / "out"))  # fmt: skip
    (record,) = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))["cases"]
    assert (record["model"], record["status"]) == ("tiny_x2", "ok")
    assert [member["folder"] for member in record["members"]] == folders
    report = evaluate_model(**given, model=",".join(folders), datalist=datalist, output_dir=tmp_path / "scores")
    assert (report["model"]["name"], len(report["model"]["members"])) == ("tiny_x2", 2)
    written = [nib.load(tmp_path / place / "test0_seg.nii.gz") for place in ("out", "scores")]
    np.testing.assert_array_equal(written[0].dataobj, written[1].dataobj)
    assert set(np.unique(written[0].dataobj)) <= {0, *LABELS.values()}


def test_inference_says_which_member_is_missing(tmp_path):
    image = str(write_cases(tmp_path / "data", {"test": 1}).parent / "test0.nii.gz")
    with pytest.raises(RuntimeError) as caught:
        run_workflow(["inference.yaml"], bundle_root=BUNDLE, device="cpu", dataset_dir=image,
                     model=[str(write_model(tmp_path / "fold0")), str(tmp_path / "fold1")])  # fmt: skip
    assert f"model {str(tmp_path / 'fold1')!r} has no model.yaml" in str(input_error_of(caught.value))
