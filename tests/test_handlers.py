"""Handlers of the training."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from swin_umamba.errors import InputError
from swin_umamba.handlers import EncoderFreezing, EpochLog, GradientClipping, ModelSaver, StopOnBadLoss
from swin_umamba.models import ModelSpec, build_described_network, load_model
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


def make_spec() -> ModelSpec:
    network = {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 1}}
    return ModelSpec(name="toy", network=network, labels={"liver": 1}, training={"data": "none"})


class FakeValidator(Engine):
    """Reports the given metrics, one for each epoch, as MONAI's evaluator keeps them."""

    def __init__(self, metrics):
        super().__init__(lambda engine, batch: None)
        self.values = metrics
        self.state.best_metric = -1
        self.state.best_metric_epoch = -1
        self.state.key_metric_name = "dice"
        self.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def validate(self, epoch):
        self.state.epoch = epoch - 1
        self.state.max_epochs = epoch
        self.run([0], max_epochs=epoch)

    def _compare(self, engine):
        value = self.values[engine.state.epoch - 1]
        self.state.metrics = {"dice": value}
        if value > self.state.best_metric:
            self.state.best_metric, self.state.best_metric_epoch = value, self.state.epoch


def test_best_model_is_kept(tmp_path):
    network = build_described_network(make_spec())
    validator = FakeValidator([0.4, 0.6, 0.5])
    saver = ModelSaver(tmp_path / "model", network, make_spec(), validator)
    trainer = Engine(lambda engine, batch: next(network.parameters()).data.fill_(engine.state.epoch))
    saver.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validator.validate(engine.state.epoch))
    trainer.run([0], max_epochs=3)
    model = load_model(tmp_path / "model")
    assert model.spec.training == {"data": "none", "epoch": 2, "validation_mean_dice": 0.6}
    assert next(model.network.parameters()).unique().tolist() == [2.0]


def test_last_model_is_kept_without_a_validator(tmp_path):
    network = build_described_network(make_spec())
    saver = ModelSaver(tmp_path / "model", lambda: network, make_spec(), select="last")
    trainer = Engine(lambda engine, batch: None)
    saver.attach(trainer)
    trainer.run([0], max_epochs=3)
    assert load_model(tmp_path / "model").spec.training["epoch"] == 3


def test_bad_selection(tmp_path):
    with pytest.raises(InputError, match="select of the saved model: 'first'; legal: 'best', 'last'"):
        ModelSaver(tmp_path, nn.Linear(1, 1), make_spec(), select="first")
    with pytest.raises(InputError, match="needs a validator"):
        ModelSaver(tmp_path, nn.Linear(1, 1), make_spec())
