"""Several processes, seen from one."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.distributed import (
    is_rank_zero,
    join_processes,
    mean_over_ranks,
    own_cases,
    same_on_all_ranks,
    share_of,
    sum_over_ranks,
    world_size,
)
from swin_umamba.errors import InputError


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_alone():
    assert is_rank_zero()
    assert world_size() == 1
    assert share_of(30) == 30


def test_second_of_two(second_of_two):
    assert not is_rank_zero()
    assert share_of(30) == 15


def test_uneven_batch(second_of_two):
    with pytest.raises(InputError, match="batch size 15: 2 processes cannot share it evenly"):
        share_of(15)
    with pytest.raises(InputError, match="legal: a multiple of 6"):
        share_of(4, slices_per_volume=3)
    assert share_of(12, slices_per_volume=3) == 2


def test_cases_are_shared_out(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        shares.append(own_cases([1, 2, 3, 4, 5]))
    assert shares == [[1, 3, 5], [2, 4]]
    assert own_cases([1]) == [1]  # every process takes part in the mean
    assert own_cases([1], every_process=False) == []
    assert own_cases([]) == []


def test_nothing_is_exchanged_alone():
    value = torch.ones(2)
    assert sum_over_ranks(value) is value
    assert mean_over_ranks(0.5, "cpu") == 0.5
    assert same_on_all_ranks("here") == "here"


def test_torchrun_is_needed(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="needs torchrun"):
        join_processes()
