"""Several processes, seen from one."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.distributed import is_rank_zero, join_processes, rank_generator, share_of, world_size
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
    assert rank_generator(7).initial_seed() == 8


def test_uneven_batch(second_of_two):
    with pytest.raises(InputError, match="batch size 15: 2 processes cannot share it evenly"):
        share_of(15)
    with pytest.raises(InputError, match="legal: a multiple of 6"):
        share_of(4, slices_per_volume=3)
    assert share_of(12, slices_per_volume=3) == 2


def test_different_ranks_draw_different_numbers(monkeypatch):
    first = torch.rand(4, generator=rank_generator(0))
    monkeypatch.setenv("RANK", "1")
    assert not torch.equal(first, torch.rand(4, generator=rank_generator(0)))


def test_torchrun_is_needed(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="needs torchrun"):
        join_processes()
