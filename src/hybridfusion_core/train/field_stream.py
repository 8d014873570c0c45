"""More unlabelled fields than fit into memory: a few are held at a time, and replaced one by one as a training goes on.

Which fields are held is a function of the seed and the step alone, so a training that is resumed holds the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.train.patches import Field, UnlabelledStack

_TRIES = 4  # fields to take in the place of one that cannot be read

ReadField = Callable[[Generator], Field]  # reads a field, or a part of a large one that the generator chooses


@dataclass
class FieldStream:
    """Fields of stacks that are drawn evenly, whatever their size and number of fields.

    Attributes:
        stacks: what reads the fields of each, by its name.
        seed: of everything random.
        hold: how many fields are in memory at a time.
        every: steps after which the oldest field is replaced.
    """

    stacks: Mapping[str, Sequence[ReadField]]
    seed: int
    hold: int
    every: int

    def __post_init__(self) -> None:
        self._held: dict[int, UnlabelledStack] = {}

    def at(self, step: int) -> tuple[UnlabelledStack, ...]:
        """Return the fields held at a step, each as a stack of one field; reads those that are new."""
        first = step // self.every
        wanted = range(first, first + self.hold)
        for number in [each for each in self._held if each not in wanted]:
            del self._held[number]
        for number in wanted:
            if number not in self._held:
                self._held[number] = self._read(number)
        return tuple(self._held[number] for number in wanted)

    def _read(self, number: int) -> UnlabelledStack:
        """Read the field that is the n-th to be held."""
        names = tuple(self.stacks)
        turn, place = divmod(number, len(names))
        # Every stack once, in a new order, before any comes again.
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(names))
        generator = np.random.default_rng([self.seed, 1, number])
        problem: HybridFusionError | None = None
        for index in (order[(place + beside) % len(names)] for beside in range(_TRIES)):
            readers = self.stacks[names[index]]
            try:
                return UnlabelledStack(names[index], (readers[int(generator.integers(len(readers)))](generator),))
            except HybridFusionError as error:  # one broken field ends no training
                problem = error
        assert problem is not None  # noqa: S101 - tried at least once
        raise problem
