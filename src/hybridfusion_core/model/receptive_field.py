"""How far a network sees: intervals of pixels, followed back through its stages.

Nothing here is estimated: what lies outside has no influence at all, which is what tiles rest on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hybridfusion_core.model.blur import kernel_radius

if TYPE_CHECKING:
    from hybridfusion_core.model.config import NetworkConfig


def receptive_field(config: NetworkConfig) -> int:
    """Farthest distance in pixels, along one axis, from which a pixel's score is influenced.

    Exact: the interval of inputs of every pixel of one lattice cell is followed back through the network
    (axes are independent, so a square of twice this distance plus one holds all inputs).

    Returns:
        The maximum over all phases of the lattice, in pixels.
    """
    features = sum(config.dilations)  # of what the tokens are told: `near_windows` reach no farther
    direct = max([features, *(energy_reach(window) for window in config.focus_windows)])  # of what the head is told
    reach = 0
    for phase in range(config.lattice):
        ends = [phase - 1 - direct, phase + 2 + direct]
        if config.depth:
            low, high = _tokens_behind(config, phase - 1, phase + 2)  # the head's 3 × 3
            ends += [low - features, high + features]
        if config.coarse_depth:
            ends += told_behind(config, *coarse_tokens_behind(config, phase - 1, phase + 2))
        reach = max(reach, phase - min(ends), max(ends) - 1 - phase)
    return reach


def token_reach(config: NetworkConfig) -> int:
    """How far beyond a core of whole lattice cells lie tokens that its scores depend on; whole cells, pixels.

    Of the coarse level where there is one.
    """
    behind = coarse_tokens_behind if config.coarse_depth else _tokens_behind
    low, high = behind(config, -1, config.lattice + 1)  # the head's 3 × 3
    return -(-max(-low, high - config.lattice) // config.lattice) * config.lattice


def _tokens_behind(config: NetworkConfig, low: int, high: int) -> tuple[int, int]:
    """Interval of pixels, half-open, whose tokens pixels [low, high) depend on; followed back through the blocks."""
    low, high = low // config.patch, -(-high // config.patch)  # pixels -> tokens
    for block in reversed(range(config.depth)):
        offset = config.window // 2 if config.shifted(block) else 0
        low = (low - offset) // config.window * config.window + offset
        high = -(-(high - offset) // config.window) * config.window + offset
    return low * config.patch, high * config.patch  # tokens -> pixels


def energy_reach(window: float) -> int:
    """Pixels that the gradient energy in a window depends on: of the Sobel kernel and the Gaussian."""
    return 1 + kernel_radius(window)


def coarse_tokens_behind(config: NetworkConfig, low: int, high: int) -> tuple[int, int]:
    """Interval of pixels, half-open, whose coarse tokens pixels [low, high) depend on; followed back through blocks."""
    side = config.token_side
    low, high = math.floor((low + 0.5) / side - 0.5), math.ceil((high - 0.5) / side - 0.5) + 1  # between two centres
    for block in reversed(range(config.coarse_depth)):
        low, high = low - 1, high + 1  # the mixer
        offset = config.window // 2 if config.shifted(block) else 0
        low = (low - offset) // config.window * config.window + offset
        high = -(-(high - offset) // config.window) * config.window + offset
    return low * side, high * side  # tokens -> pixels


def told_behind(config: NetworkConfig, low: int, high: int) -> tuple[int, int]:
    """Interval of pixels that coarse tokens of pixels [low, high) are told of."""
    near, twice = (
        sum(config.dilations),
        2 * config.coarse_bin,
    )  # the guide binned twice, whose gradient takes a cell more
    return min(low - near, (low // twice - 1) * twice), max(high + near, (-(-high // twice) + 1) * twice)
