"""An inference that is stopped by its name, between two steps of the network."""

from __future__ import annotations

import threading

import pytest
import torch
from swin_umamba.errors import InputError
from torch import nn

from monailabel_app.stopping import Stopped, stop, stoppable, watched

IMAGE = torch.zeros(1)


def test_network_stops_before_its_next_step():
    network, steps = nn.Identity(), []

    def run() -> None:
        with stoppable("a"), watched(network):
            for step in range(5):
                network(IMAGE)
                steps.append(step)
                assert step != 1 or stop("a")

    with pytest.raises(Stopped):
        run()
    assert steps == [0, 1]
    network(IMAGE)  # nothing of it is left
    assert not stop("a")


def test_one_inference_is_stopped_and_no_other():
    network = nn.Identity()
    ready, go = threading.Barrier(2), threading.Event()

    def other() -> None:
        with stoppable("other"), watched(nn.Identity()) as _:
            ready.wait(10)
            go.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    with stoppable("mine"), watched(network):
        ready.wait(10)
        assert stop("other")
        network(IMAGE)
    go.set()
    thread.join(10)
    with watched(network):
        network(IMAGE)  # without a name nobody stops it


@pytest.mark.parametrize("name", ["", "x" * 65, "a\n", 7])
def test_illegal_name_is_named(name):
    with pytest.raises(InputError, match="run .*: legal: 1 to 64"), stoppable(name):
        pass


def test_name_that_runs_already_is_named():
    with stoppable("a"):
        with pytest.raises(InputError, match="run 'a': one of that name runs"), stoppable("a"):
            pass
        assert stop("a")
