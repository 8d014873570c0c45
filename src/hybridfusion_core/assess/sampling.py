"""Whether the slices lie close enough, and whether they reach far enough."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.limits import END, END_DETAIL, END_TRANSMITTED, FEWEST_PIXELS, FEWEST_SLICES
from hybridfusion_core.assess.looked_at import LookedAt
from hybridfusion_core.scenes.objective import Objective, refractive_index

_EMISSION_UM, _LAMP_UM = 0.53, 0.55  # where the file does not say: green
_LEAST_NA, _LARGEST_NA = 0.02, 1.7  # beyond, it is a mistake
_LARGEST_RATIO = 1.5  # steps in depths of field
_LEAST_LEFT = 0.2  # of the sharpness, in the slices beside the sharpest one
_LEAST_LEFT_BY_OPTICS = 0.12  # the same where the optics say that the step is small enough


def judge_sampling(seen: LookedAt, found: Findings) -> None:
    """Compare the z step with the depth of field, and look at what lies in the outermost slices."""
    _judge_step(seen, found)
    if len(seen.slices) >= FEWEST_SLICES:
        _judge_ends(seen, found)


def depth_of_field_um(seen: LookedAt) -> float | None:
    """λn/NA² + n e/NA of what is looked at (Inoué & Spring 1997), in µm; None if the file does not say the aperture."""
    stack = seen.stack
    pixel = stack.y.step_um
    if stack.na is None or not _LEAST_NA <= stack.na <= _LARGEST_NA or pixel is None or pixel <= 0:
        return None
    wavelength = _LAMP_UM if stack.channels[seen.decider.guide[0]].transmitted else _EMISSION_UM
    return pixel * Objective(stack.na, refractive_index(stack.na), wavelength, pixel).depth_of_field()


def sharpness_left(seen: LookedAt) -> float | None:
    """How much of a pixel's sharpness its two neighbouring slices still have: median in [0, 1], or None if too few.

    Sharpness is Tenengrad's energy above noise; the neighbours count by their geometric mean, which for a focus curve
    of a Gaussian's form does not depend on where between two slices the surface lies.
    """
    left = []
    for tile in seen.tiles:
        energy, best = tile.energy, tile.energy.argmax(axis=0)
        inner = tile.in_focus & tile.structure & (best > 0) & (best < len(energy) - 1)
        y, x = np.nonzero(inner)
        z = best[y, x]
        left.append(np.sqrt(energy[z - 1, y, x] * energy[z + 1, y, x]) / np.maximum(energy[z, y, x], 1e-12))
    ratios = np.concatenate(left) if left else np.zeros(0)
    return float(np.median(ratios)) if ratios.size >= FEWEST_PIXELS else None


def _judge_step(seen: LookedAt, found: Findings) -> None:
    step, depth, left = seen.step_um, depth_of_field_um(seen), sharpness_left(seen)
    if step is not None:
        found.add("z_step", step, "µm", "at most the depth of field", f"Slices lie {step:.3g} µm apart.")
    ratio = None if step is None or depth is None else step / depth
    if ratio is not None and depth is not None:
        found.add(
            "depth_of_field",
            depth,
            "µm",
            "at least the z step",
            f"An aperture of {seen.stack.na:g} keeps {depth:.3g} µm sharp at once; a step is {ratio:.2g} of that.",
        )
    found.add(
        "sharpness_in_the_next_slice",
        left,
        "",
        f"above {_LEAST_LEFT:g}",
        "Too little is in focus inside the stack to measure how fast sharpness falls from slice to slice."
        if left is None
        else f"One slice away from its best focus, detail keeps {left:.0%} of its sharpness.",
    )
    by_optics = ratio is not None and ratio > _LARGEST_RATIO
    least = _LEAST_LEFT if ratio is None else _LEAST_LEFT_BY_OPTICS
    by_pixels = left is not None and left < least and not seen.transmitted
    if by_optics and depth is not None:
        found.warn(
            "too_coarse",
            "depth_of_field",
            f"The slices lie {step:.3g} µm apart and only {depth:.3g} µm are sharp at once: what lies between two "
            "slices "
            f"is sharp in neither. Take slices every {depth:.2g} µm or closer.",
        )
    elif by_pixels:
        cure = "halve the z step" if step is None else f"take slices every {step / 2:.2g} µm or closer"
        found.warn(
            "too_coarse",
            "sharpness_in_the_next_slice",
            f"One slice away from its focus, detail has lost {1 - (left or 0):.0%} of its sharpness: what lies "
            "between two "
            f"slices is sharp in neither. If you can, {cure}.",
        )


def _judge_ends(seen: LookedAt, found: Findings) -> None:
    count = len(seen.slices)
    pixels, detail = np.zeros(count), np.zeros(count)
    for tile in seen.tiles:
        best = tile.posterior.argmax(axis=0)[tile.in_focus]
        pixels += np.bincount(best, minlength=count)
        strength = tile.energy.max(axis=0)[tile.in_focus]
        detail += np.bincount(best, strength, minlength=count)
    total = pixels.sum()
    if total < FEWEST_PIXELS:
        return
    share, detail = pixels / total, detail / max(float(detail.sum()), 1e-12)
    most = END_TRANSMITTED if seen.transmitted else END
    for name, end in (("start", 0), ("end", -1)):
        at_end = float(share[end])
        found.add(
            f"sharpest_at_the_{name}",
            100 * at_end,
            "% of what is in focus",
            f"below {100 * most:g}",
            f"{at_end:.0%} of what is in focus is sharpest in the {'first' if end == 0 else 'last'} slice.",
        )
        if at_end >= most and detail[end] >= END_DETAIL:
            missing = _missing(share if end == 0 else share[::-1])
            step = seen.step_um
            amount = f"{missing} slice{'' if missing == 1 else 's'}" + (
                "" if step is None else f" ({missing * step:.2g} µm)"
            )
            found.warn(
                "cut_at_start" if end == 0 else "cut_at_end",
                f"sharpest_at_the_{name}",
                f"{at_end:.0%} of what is in focus is sharpest in the {'first' if end == 0 else 'last'} slice: the "
                "specimen "
                f"goes on beyond it. Begin the stack at least {amount} {'before' if end == 0 else 'beyond'} it."
                if end == 0
                else f"{at_end:.0%} of what is in focus is sharpest in the last slice: the specimen goes on beyond "
                "it. End "
                f"the stack at least {amount} beyond it.",
            )


def _missing(share: NDArray[np.float64]) -> int:
    """How many slices more, if what is heaped in the outermost one lay as densely as in the next three."""
    inside = float(share[1:4].mean())
    return max(1, min(len(share), math.ceil(share[0] / inside - 1))) if inside > 0 else len(share) // 2
