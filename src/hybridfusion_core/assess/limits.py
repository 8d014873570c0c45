"""From where on something is warned of, where more than one judge asks: `assess`, and the report of a batch."""

from __future__ import annotations

LEAST_IN_FOCUS = 1e-3  # share of the pixels
END = 0.1  # share of what is in focus that may lie in an outermost slice
END_TRANSMITTED = 0.35  # the same of transmitted light, whose slices are told apart less surely
END_DETAIL = 0.05  # the same of its detail: glow has none
FEWEST_SLICES = 4  # fewer have hardly an inside
FEWEST_PIXELS = 200  # in focus
SATURATED, CLIPPED = 2e-4, 0.02  # share of the pixels
DRIFT_PX = 1.0
