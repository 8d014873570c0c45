"""Where a training stands and whether it still gets better: all that its state holds beside weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

WARM_UP = 20  # steps
CONSTANT = 0.3  # share of the steps before the rate falls
VALIDATIONS = 20
PATIENCE = 6  # validations without a better one, once the rate has fallen by half: until then weights wander
FORGOTTEN = 2.0  # decibels that a decibel lost on familiar scenes costs
EXPLODED = 20.0  # times the median of the last losses
REMEMBERED = 50  # losses


@dataclass
class Course:
    """A training between two steps.

    Attributes:
        steps: of the whole; None until the speed is known.
        step: that comes next.
        before: validation of the start.
        best: validation of the best weights.
        latest: the last validation.
        best_step: how many steps the best weights had taken.
        stale: validations since then.
        losses: the last ones, to tell what is usual.
    """

    steps: int | None
    step: int = 0
    before: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    stale: int = 0
    losses: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Course:
        """Take up what `vars` of a course gave."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})

    @property
    def ended(self) -> bool:
        """All steps are taken, or nothing has become better for long."""
        return self.stopped_early or self.step == self.steps

    @property
    def stopped_early(self) -> bool:
        """Nothing has become better for long, though the steps have become small."""
        return self.stale >= PATIENCE and self.steps is not None and self.step > (1 + CONSTANT) / 2 * self.steps

    @property
    def judged_now(self) -> bool:
        """A validation is due: `VALIDATIONS` times, the last one after the last step."""
        if self.steps is None:
            return False
        return self.step * VALIDATIONS // self.steps > (self.step - 1) * VALIDATIONS // self.steps

    def judge(self, found: dict[str, float]) -> bool:
        """Take a validation into account; says whether it is the best so far."""
        self.before = self.before or found
        self.latest = found
        better = not self.best or self._score(found) > self._score(self.best)
        if better:
            self.best, self.best_step, self.stale = found, self.step, 0
        else:
            self.stale += 1
        return better

    def usual(self) -> float:
        """Median of the last losses; infinite while there are too few to tell."""
        return median(self.losses) if len(self.losses) == REMEMBERED else math.inf

    def remember(self, loss: float) -> bool:
        """Note a loss; says whether it is one that a training may have."""
        if not (math.isfinite(loss) and loss <= EXPLODED * self.usual()):
            return False
        self.losses = [*self.losses, loss][-REMEMBERED:]
        return True

    def _score(self, found: Mapping[str, float]) -> float:
        lost = max(0.0, self.before["familiar_psnr"] - found["familiar_psnr"])
        return found["psnr"] - FORGOTTEN * lost


def rate(highest: float, step: int, steps: int | None) -> float:
    """Learning rate at a step: a linear warm-up, a constant, and a cosine to zero over the last part.

    Args:
        highest: the constant.
        step: from 0.
        steps: of the whole; None: not known yet, and far away.
    """
    warm = min(1.0, (step + 1) / WARM_UP)
    if steps is None or step < CONSTANT * steps:
        return highest * warm
    return highest * warm * 0.5 * (1 + math.cos(math.pi * (step / steps - CONSTANT) / (1 - CONSTANT)))
