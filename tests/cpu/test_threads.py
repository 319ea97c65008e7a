"""Work on all cores: on PyTorch's OpenMP threads, on a pool where there are none."""

import os
import signal
import sys
import threading

import pytest
import torch
from swin_umamba.cpu import threads


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "pool"])
def kind(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "openmp", lambda: None)
    elif threads.openmp() is None:
        pytest.skip("PyTorch's OpenMP library cannot be reached here")
    return request.param


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch may come with another library")
def test_pytorch_of_linux_lends_its_threads():
    assert threads.openmp() is not None


def test_units_run_at_the_same_time_each_once(kind):
    meeting, done = threading.Barrier(2, timeout=20), []

    def call(unit):
        if unit < 2:
            meeting.wait()  # breaks unless two units are under way at once
        done.append((unit, threading.get_ident()))

    threads.run(call, range(9))
    assert sorted(unit for unit, _ in done) == list(range(9))
    assert len({thread for _, thread in done}) == 2


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_of_any_thread_is_raised(kind, bad):
    meeting = threading.Barrier(2, timeout=20)

    def call(unit):
        meeting.wait()
        if unit == bad:
            raise ValueError(f"unit {unit}")

    with pytest.raises(ValueError, match=f"unit {bad}"):
        threads.run(call, range(2))
    threads.run(lambda unit: None, range(9))  # the threads are fit for more


def test_several_threads_may_ask_at_once(kind):
    sums = []

    def ask():
        for _ in range(50):
            done = []
            threads.run(done.append, range(5))
            sums.append(sum(done))

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert sums == [10] * 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_process_does_not_wait_for_threads_that_it_has_not(kind):
    threads.run(lambda unit: None, range(2))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        done: list[int] = []
        threads.run(done.append, range(5))
        os._exit(0 if sorted(done) == list(range(5)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
