"""Random draws that depend on the seed and on their number alone, so that a training can go on as if never stopped.

Neither the number of worker processes, nor of training processes, nor what was drawn before changes a draw.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, Randomizable
from torch.utils.data import Sampler

from swin_umamba.distributed import rank, world_size
from swin_umamba.errors import InputError


class Draw(NamedTuple):
    """What a sampler asks a dataset for: a volume, and the seed of its augmentation."""

    volume: int
    seed: int


class EndlessSampler(Sampler[Draw]):
    """Draw volumes with replacement, batch after batch without end.

    Batch `n` of all processes together is a function of `seed` and `n`; each process takes its part of it. There is no
    pause between epochs: workers prepare the next epoch's batches while the network is validated.

    Args:
        data_source: the dataset; its length counts.
        batch_size: volumes that this process draws for a batch, 1 or more.
        seed: 0 or more.

    Raises:
        InputError: for an empty dataset, or a number that is not legal.
    """

    def __init__(self, data_source: Sized, batch_size: int, seed: int = 0) -> None:
        if len(data_source) == 0:
            raise InputError("no volumes to draw from; legal: a dataset of one volume or more")
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} {value!r}: legal: a whole number, {least} or more")
        self.data_source, self.batch_size, self.seed = data_source, batch_size, seed
        self.first_batch = 0

    def start_at(self, batch: int) -> None:
        """Begin with this batch, counted from 0, the next time that draws are asked for."""
        self.first_batch = batch

    def batch(self, number: int) -> list[Draw]:
        """Return this process's draws of a batch."""
        numbers = np.random.default_rng([self.seed, number])
        total = self.batch_size * world_size()
        volumes = numbers.integers(len(self.data_source), size=total).tolist()
        seeds = numbers.integers(2**32, size=total).tolist()
        own = slice(rank() * self.batch_size, (rank() + 1) * self.batch_size)
        return [Draw(*draw) for draw in zip(volumes[own], seeds[own], strict=True)]

    def __iter__(self) -> Iterator[Draw]:
        for number in itertools.count(self.first_batch):
            yield from self.batch(number)


class StepSeeding:
    """Seed the random numbers of each training step (drop path, augmentation on the GPU) by its number.

    Every process has numbers of its own.

    Args:
        seed: 0 or more.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Act when a batch is there and before the network sees it."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        sequence = np.random.SeedSequence([self.seed, engine.state.iteration, rank()])
        seed = int(sequence.generate_state(1)[0])
        seed_generators(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(seed)


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, NumPy and, for the CPU, PyTorch; 0 ≤ seed < 2³²."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the generator that transforms and third parties use
    torch.random.default_generator.manual_seed(seed)


def share_random_state(transform: Any, state: np.random.RandomState) -> None:
    """Let all random transforms of a pipeline draw from one state, which is then seeded for each sample.

    Args:
        transform: a transform, or a `Compose` of any depth.
        state: drawn from in the order of the transforms.
    """
    if isinstance(transform, Compose):
        transform.R = state
        for part in transform.transforms:
            share_random_state(part, state)
    elif isinstance(transform, Randomizable):
        transform.set_random_state(state=state)
