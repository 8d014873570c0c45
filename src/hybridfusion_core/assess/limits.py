"""Limits that an assessment and a batch share, so that both warn of the same; imports nothing that computes."""

from __future__ import annotations

LEAST_IN_FOCUS = 1e-3  # of the pixels; below, nothing is in focus
END = 0.1  # share of what is in focus that may lie in an outermost slice
END_TRANSMITTED = 0.35  # the same of transmitted light, whose slices are told apart less surely
FEWEST_SLICES = 4  # fewer have hardly an inside
FEWEST_PIXELS = 200  # in focus, to say where they lie
