"""Handlers of the training."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from swin_umamba.errors import InputError
from swin_umamba.handlers import EncoderFreezing, EpochLog, GradientClipping, StopOnBadLoss
from torch import nn


def make_trainer(network: nn.Module, *handlers, epochs: int = 1) -> SupervisedTrainer:
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=[{"image": torch.ones(1, 1), "label": torch.zeros(1, 1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda prediction, label: (1000 * prediction).sum(),
        train_handlers=list(handlers),
        decollate=False,
    )


def test_gradients_are_clipped_to_their_common_norm():
    network = nn.Linear(1, 1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    make_trainer(network, GradientClipping(max_norm=12.0)).run()
    # both gradients are 1000: clipped together to norm 12 each is 12 / √2, and the learning rate is 1
    for old, new in zip(before, network.parameters(), strict=True):
        assert (old - new).item() == pytest.approx(12 / math.sqrt(2), rel=1e-4)


@pytest.mark.parametrize("norm", [0, -1.0])
def test_bad_norm(norm):
    with pytest.raises(InputError, match="max_norm of gradient clipping"):
        GradientClipping(norm)


class Encoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vssm_encoder = nn.ModuleDict({"patch_embed": nn.Linear(1, 1), "layers": nn.Linear(1, 1)})
        self.decoder = nn.Linear(1, 1)

    def forward(self, x):
        return self.decoder(self.vssm_encoder["layers"](self.vssm_encoder["patch_embed"](x)))


def test_encoder_rests_for_its_epochs_but_not_the_patch_embedding():
    network = Encoded()
    frozen = []

    def remember(engine):
        frozen.append([name for name, parameter in network.named_parameters() if not parameter.requires_grad])

    trainer = make_trainer(network, GradientClipping(), EncoderFreezing(network, epochs=2), epochs=3)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, remember)
    trainer.run()
    layers = ["vssm_encoder.layers.weight", "vssm_encoder.layers.bias"]
    assert frozen == [layers, layers, []]


def test_negative_epochs():
    with pytest.raises(InputError, match="epochs to freeze the encoder: -1"):
        EncoderFreezing(Encoded(), epochs=-1)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_training_stops_at_a_bad_loss(loss):
    trainer = Engine(lambda engine, value: {"loss": torch.tensor(value)})
    StopOnBadLoss().attach(trainer)
    with pytest.raises(InputError, match=f"the loss became {loss} in iteration 2 of epoch 1"):
        trainer.run([1.0, loss, 1.0])


def test_one_line_for_each_epoch(caplog):
    trainer = make_trainer(nn.Linear(1, 1), EpochLog(), epochs=2)
    with caplog.at_level("INFO", logger="swin_umamba.handlers"):
        trainer.run()
    lines = [record.getMessage() for record in caplog.records if record.name == "swin_umamba.handlers"]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "slices/s" in lines[0]
    assert "learning rate 1.00e+00" in lines[0]
