"""Stacks that look like transmitted light and do not say which light they show.

The weights for fluorescence look for what is brightest and sharpest; in transmitted light contrast inverts through
focus, so that they decide wrongly there. Nothing but the user knows: this is a question, asked wherever one can be.
"""

from __future__ import annotations

import numpy as np

from hybridfusion_core.fusion.job import Job
from hybridfusion_core.stack import Stack

_GROUND = 0.5  # a background this bright, of the brightest pixels, is not the dark around something that shines
_DARKER = 0.45  # and this much darker things than it stand before it, of how much brighter ones there are
_GLANCE = 256  # px around the middle


def looks_transmitted(stack: Stack, channel: int = 0) -> bool:
    """Say whether a grey channel looks like transmitted light and does not say which light it is.

    Its background is bright, and what differs from it is as often darker. Looks at 512 × 512 px of the middle slice.

    Args:
        stack: any; colours are never in doubt.
        channel: index.
    """
    if stack.rgb or stack.channels[channel].transmitted is not None:
        return False
    rows, columns = (slice(max(0, n // 2 - _GLANCE), min(n, n // 2 + _GLANCE)) for n in stack.shape[3:])
    pixels = np.asarray(stack.read(0, channel, [stack.shape[2] // 2], rows, columns)[0], dtype=np.float64)
    pixels = pixels[np.isfinite(pixels)]
    if not pixels.size:
        return False
    dark, middle, bright, top = np.percentile(pixels, (0.5, 50, 99.5, 99.9))
    return bool(middle > _GROUND * top > 0 and middle - dark > _DARKER * (bright - middle))


def light_warnings(job: Job, stack: Stack) -> list[str]:
    """Ask about the light of channels that decide by weights for other light, one sentence each.

    Args:
        job: what is done; a model that was asked for by name is no guess.
        stack: what is fused.
    """
    if job.request.model != "auto":
        return []
    guessed = [each for each in job.deciders if each.model is not None and each.model.card.name == "fluorescence"]
    asked = sorted({channel for decider in guessed for channel in decider.guide})
    alone = stack.shape[1] == 1
    return [
        f"{stack.name if alone else f'Channel {stack.channels[each].name!r}'} has a bright background, as transmitted "
        "light has, and the file does not say which light it shows. If light went through the specimen, fuse it with "
        f"--model transmitted{'' if alone else f' --channels {stack.channels[each].name}'}."
        for each in asked
        if looks_transmitted(stack, each)
    ]
