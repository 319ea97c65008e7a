"""Draws depend on the seed and their number alone."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, OneOf, RandFlipd, RandGaussianNoised, RandShiftIntensityd
from swin_umamba.errors import InputError
from swin_umamba.sampling import Draw, EndlessSampler, StepSeeding, share_random_state
from swin_umamba.training import VolumeCache


def take(sampler: EndlessSampler, count: int) -> list[Draw]:
    return list(itertools.islice(sampler, count))


def test_sampler_starts_at_any_batch():
    draws = take(EndlessSampler(range(5), batch_size=3, seed=7), 30)
    later = EndlessSampler(range(5), batch_size=3, seed=7)
    later.start_at(4)
    assert take(later, 18) == draws[12:]
    assert {draw.volume for draw in draws} == set(range(5))
    assert len({draw.seed for draw in draws}) == 30
    assert take(EndlessSampler(range(5), batch_size=3, seed=8), 30) != draws


def test_processes_share_the_draws_of_one(monkeypatch):
    whole = take(EndlessSampler(range(9), batch_size=4), 8)
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        parts.append(take(EndlessSampler(range(9), batch_size=2), 4))
    assert parts[0][:2] + parts[1][:2] == whole[:4]
    assert parts[0][2:] + parts[1][2:] == whole[4:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_source": []}, "no volumes to draw from"),
        ({"batch_size": 0}, "batch_size 0: legal: a whole number, 1 or more"),
        ({"seed": -1}, "seed -1: legal: a whole number, 0 or more"),
        ({"seed": 1.5}, "seed 1.5: legal"),
    ],
)
def test_illegal_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        EndlessSampler(**{"data_source": range(2), "batch_size": 1, **arguments})


def pipeline() -> Compose:
    noise = RandGaussianNoised("image", prob=0.5)
    return Compose([RandFlipd("image", prob=0.5), OneOf([noise, RandShiftIntensityd("image", offsets=1.0, prob=0.9)])])


def test_item_is_a_function_of_its_draw():
    def cache() -> VolumeCache:
        data = [{"image": torch.arange(6.0).view(1, 6) + 10 * number} for number in range(2)]
        return VolumeCache(data, pipeline(), num_workers=1, progress=False)

    draws = [Draw(number % 2, seed) for number, seed in enumerate((3, 2**32 - 1, 3, 5, 11))]
    first, other = cache(), cache()
    other.set_random_state(99)  # as a loader does in a worker
    backwards = {draw: other[draw]["image"] for draw in reversed(draws)}
    found = {draw: first[draw]["image"] for draw in draws}
    for draw in draws:
        assert torch.equal(torch.as_tensor(found[draw]), torch.as_tensor(backwards[draw])), draw
    assert not torch.equal(torch.as_tensor(found[draws[0]]), torch.as_tensor(found[draws[4]]))


def test_all_transforms_draw_from_one_state():
    state, transforms = np.random.RandomState(0), pipeline()  # noqa: NPY002  # what MONAI draws from
    share_random_state(transforms, state)
    choice = transforms.transforms[1]
    assert {id(part.R) for part in (transforms, choice, *transforms.transforms, *choice.transforms)} == {id(state)}


def test_steps_are_seeded_by_their_number():
    def numbers(start: int, seed: int = 0) -> list[tuple[float, float, float]]:
        def step(engine, batch):
            return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

        engine, found = Engine(step), []
        StepSeeding(seed).attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.output))
        engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", start))
        engine.run([0] * 4, max_epochs=1)
        return found

    assert numbers(0)[2:] == numbers(2)[:2]
    assert numbers(0)[0] != numbers(0)[1]
    assert numbers(0)[0] != numbers(0, seed=1)[0]
