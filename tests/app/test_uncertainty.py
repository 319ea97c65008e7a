"""How spread probabilities are, by hand; and that the background works once for each version."""

from __future__ import annotations

import math
import os
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers_bundle import ROOT
from helpers_commands import run_module
from torch import nn

from monailabel_app.uncertainty import EntropyProbe, Uncertainties, UncertaintyScoring


class Fixed(nn.Module):
    """A network that answers with these probabilities (K, x, y) for every slice."""

    def __init__(self, probabilities):
        super().__init__()
        self.logits = torch.tensor(probabilities).log()

    def forward(self, slices):
        return self.logits.expand(len(slices), *self.logits.shape)


def test_entropy_where_organs_may_be():
    """Three pixels: background for sure, an organ for sure, and one of both."""
    probabilities = [[[0.98, 1e-9, 0.5]], [[0.01, 1.0, 0.5]], [[0.01, 1e-9, 1e-9]]]
    probe = EntropyProbe(Fixed(probabilities))
    logits = probe(torch.zeros(2, 1, 1, 3))
    assert logits.shape == (2, 3, 1, 3)
    assert probe.uncertainty == pytest.approx((0 + math.log(2) / math.log(3)) / 2, abs=1e-5)


def test_no_organ_at_all_is_most_uncertain():
    probe = EntropyProbe(Fixed([[[0.99, 0.99]], [[0.01, 0.01]]]))
    probe(torch.zeros(1, 1, 1, 2))
    assert probe.uncertainty == 1.0


def test_what_is_pending(tmp_path):
    table = Uncertainties(tmp_path)
    table.put("b", 0.5, "1.0.0")
    table.put("c", None, "1.0.0")  # could not be read; not tried again with this version
    assert table.pending(["c", "b", "a"], "1.0.0") == ["a"]
    assert table.pending(["c", "b", "a"], "1.0.1") == ["a", "b", "c"]
    assert Uncertainties(tmp_path).known() == {"b": (0.5, "1.0.0"), "c": (None, "1.0.0")}


def test_another_served_version_looks_at_all_images_again(tmp_path):
    spec = SimpleNamespace(version="1.0.0")
    task = SimpleNamespace(name="tiny", store=SimpleNamespace(served=lambda name: SimpleNamespace(spec=spec)))
    scoring = UncertaintyScoring(task, Uncertainties(tmp_path))
    images = SimpleNamespace(get_unlabeled_images=lambda: ["a", "b"])
    for image in scoring.pending(images):
        scoring.table.put(image, 0.5, "1.0.0")
    assert (scoring.pending(images), scoring.info()["images"]) == ([], 2)
    spec.version = "1.0.1"
    assert (scoring.pending(images), scoring.info()["images"]) == (["a", "b"], 0)


PRIORITY = """
import os, psutil, torch
from types import SimpleNamespace
from monailabel_app.uncertainty import UncertaintyScoring
scoring = UncertaintyScoring(SimpleNamespace(name="tiny"), None)
scoring.pending = lambda datastore: []
scoring({}, None)
print(psutil.Process().nice(), torch.get_num_threads())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has classes of priority")
def test_the_background_steps_back_for_everybody(tmp_path):
    (tmp_path / "priority.py").write_text(PRIORITY)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "bundle")])
    told = run_module("priority", folder=tmp_path, PYTHONPATH=paths)
    assert told.stdout.split() == ["19", "1"], told.stderr[-2000:]
