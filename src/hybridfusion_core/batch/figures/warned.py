"""What `assess` would warn of in a fused field, as far as fusing it measured that anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.assess.finding import Kind
from hybridfusion_core.assess.limits import END, END_TRANSMITTED, FEWEST_PIXELS, FEWEST_SLICES, LEAST_IN_FOCUS


def warned_of(
    decision: NDArray[Any] | None, slices: Sequence[int], *, transmitted: bool, drift: bool, saturated: bool
) -> list[Kind]:
    """Return kinds of warnings, in the words of `assess`.

    Two layers, the light, the step, bleaching and broken pixels are not looked for: they need the slices once more.

    Args:
        decision: Y X, slice number counted from 1, 0 where nothing is in focus; None if it was not made.
        slices: indices of those that were fused, in order.
        transmitted: light.
        drift: slices lie beside each other, and nothing was taken back.
        saturated: many pixels stand at the most that a camera counts.
    """
    found: list[Kind] = []
    if decision is not None:
        chosen = decision[decision > 0]
        if chosen.size < LEAST_IN_FOCUS * decision.size:
            found.append("nothing_in_focus")
        elif len(slices) >= FEWEST_SLICES and chosen.size >= FEWEST_PIXELS:
            most = END_TRANSMITTED if transmitted else END
            ends: tuple[tuple[Kind, int], ...] = (("cut_at_start", slices[0]), ("cut_at_end", slices[-1]))
            found += [kind for kind, index in ends if float(np.mean(chosen == index + 1)) >= most]
    asked: tuple[tuple[Kind, bool], ...] = (("drift", drift), ("saturated", saturated))
    return [*found, *(kind for kind, seen in asked if seen)]
