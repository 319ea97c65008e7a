"""Batches, the start of a network and its running average."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from swin_umamba.errors import InputError
from swin_umamba.training import LabelledMaskd, NetworkAverage, prepare_batch, start_network
from torch import nn


def test_mask_of_annotated_classes():
    mask = LabelledMaskd(out_channels=5)
    assert mask({"labelled": [1, 3]})["labelled"].tolist() == [True, True, False, True, False]
    assert mask({"labelled": None})["labelled"].tolist() == [True] * 5
    assert mask({"case": "a"})["labelled"].tolist() == [True] * 5


def test_batch_is_split_into_image_and_targets():
    batch = {"image": torch.ones(2, 1, 4, 4), "label": torch.zeros(2, 1, 4, 4), "labelled": torch.ones(2, 3).bool()}
    image, target = prepare_batch(batch, "cpu")
    assert image is batch["image"]
    assert set(target) == {"label", "labelled"}
    assert set(prepare_batch({key: batch[key] for key in ("image", "label")})[1]) == {"label"}


def test_average_follows_the_warmed_up_decay():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = NetworkAverage(network, decay=0.5)
    trainer = Engine(lambda engine, value: network.weight.data.fill_(value))
    average.attach(trainer)
    trainer.run([1.0, 2.0, 3.0])
    # first update copies; then decay (1 + 1) / (10 + 1) and (1 + 2) / (10 + 2)
    second = 2 / 11 * 1.0 + 9 / 11 * 2.0
    assert average.network.weight.item() == pytest.approx(0.25 * second + 0.75 * 3.0)
    assert network.weight.item() == 3.0


def test_no_average_uses_the_network_itself():
    network = nn.Linear(1, 1)
    average = NetworkAverage(network, decay=0)
    average.attach(Engine(lambda engine, value: None))
    assert average.network is network


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay):
    with pytest.raises(InputError, match=f"decay of the weight average: {decay}"):
        NetworkAverage(nn.Linear(1, 1), decay)


def test_pretrained_and_checkpoint_exclude_each_other():
    with pytest.raises(InputError, match="'a.pth' and checkpoint 'b.pt': give one of the two"):
        start_network(nn.Linear(1, 1), "cpu", pretrained="a.pth", checkpoint="b.pt")
