"""Which weights a training keeps, and where."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events
from swin_umamba.errors import InputError
from swin_umamba.model_saver import ModelSaver
from swin_umamba.models import ModelSpec, build_described_network, load_model
from torch import nn


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


def test_model_of_a_checkpoint_replaces_what_a_kill_left(tmp_path):
    network = build_described_network(make_spec())
    saver = ModelSaver(tmp_path / "model", network, make_spec(), select="last", run_folder=tmp_path / "run")
    trainer = Engine(lambda engine, batch: None)
    saver.attach(trainer)
    trainer.run([0], max_epochs=3)
    kept = saver.state_dict()
    written = (tmp_path / "model" / "model.pt").read_bytes()
    assert (tmp_path / "run" / "model.pt").read_bytes() == written
    (tmp_path / "model" / "model.pt").write_bytes(written[:100])
    other = ModelSaver(tmp_path / "model", network, make_spec(), select="last", run_folder=tmp_path / "run")
    other.load_state_dict(kept)
    assert (tmp_path / "model" / "model.pt").read_bytes() == written
    assert load_model(tmp_path / "model").spec.training["epoch"] == other.epoch == 3


def test_other_processes_write_nothing(tmp_path):
    network = build_described_network(make_spec())
    saver = ModelSaver(tmp_path / "model", network, make_spec(), select="last", writes=False)
    trainer = Engine(lambda engine, batch: None)
    saver.attach(trainer)
    trainer.run([0], max_epochs=1)
    assert not list(tmp_path.iterdir())
