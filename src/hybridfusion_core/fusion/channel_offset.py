"""By how much channels are in focus at other heights than the one that decides: given, or measured on the stack.

Lenses focus colours at different depths. A channel that follows another one's decision is then read beside its own
focus, by the same distance everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.arrays import Array, like, namespace
from hybridfusion_core.model.focus_measures import tenengrad
from hybridfusion_core.stack import Stack

AUTO = "auto"
_CELL = 16  # px
_WINDOW = 256  # px
_WINDOWS = 3  # along Y and X, at most
_STRONGEST = 0.6  # of the cells of a channel are looked at
_RISE = 2.0  # a peak of the focus measure over its median through the slices, at least
ENOUGH = 20  # cells, in all that is looked at
_TO_SIGMA = 1.4826  # of a median absolute deviation


@dataclass(frozen=True)
class ChannelOffset:
    """Where a channel is in focus.

    Attributes:
        um: above the channel that decides.
        spread_um: standard deviation from cell to cell, robust; None of an offset that was given.
        cells: of 16 px in which both have structure; 0 of an offset that was given.
    """

    um: float
    spread_um: float | None = None
    cells: int = 0


def parse_offsets(texts: Sequence[str]) -> dict[str, float]:
    """Read NAME:UM; a name may hold colons.

    Raises:
        UserInputError: the text is anything else.
    """
    found = {}
    for text in texts:
        name, _, value = text.rpartition(":")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not name or not math.isfinite(found[name]):
            raise UserInputError(
                f"--channel-offset is {text!r}; expected auto, or NAME:UM, such as Cy5:-1.5 for a channel that is in "
                "focus 1.5 µm below the one that decides."
            )
    return found


def measure_offsets(
    stack: Stack, reference: int, channels: Sequence[int], enough: int = ENOUGH
) -> dict[int, ChannelOffset]:
    """Compare where channels are in focus, in windows spread over the first time point.

    Args:
        stack: with positions in µm.
        reference: index of the channel that decides.
        channels: indices of the others.
        enough: cells in which both channels have structure, at least.

    Returns:
        One for each channel in which it can be told: cells of 16 px where both channels have structure inside the
        stack are compared, and the median counts.
    """
    if stack.z_um is None:
        raise UserInputError(
            f"{stack.name} does not say how far its slices are apart, so that an offset between channels has no µm; "
            "expected positions. Give --z-step UM."
        )
    heights = {channel: _heights(stack, channel) for channel in (reference, *channels)}
    found = {}
    for channel in channels:
        apart = heights[channel] - heights[reference]
        apart = apart[np.isfinite(apart)]
        if len(apart) >= enough:
            middle = float(np.median(apart))
            spread = _TO_SIGMA * float(np.median(np.abs(apart - middle)))
            found[channel] = ChannelOffset(round(middle, 4), round(spread, 4), len(apart))
    return found


def combined(fields: Sequence[Mapping[int, ChannelOffset]]) -> dict[int, ChannelOffset]:
    """Take the median over fields, each as one; the spread is that between fields where there are several."""
    found = {}
    for channel in sorted({each for field in fields for each in field}):
        own = [field[channel] for field in fields if channel in field]
        values = np.array([each.um for each in own])
        middle = float(np.median(values))
        between = _TO_SIGMA * float(np.median(np.abs(values - middle)))
        spread = own[0].spread_um if len(own) == 1 else round(between, 4)
        found[channel] = ChannelOffset(round(middle, 4), spread, sum(each.cells for each in own))
    return found


def _heights(stack: Stack, channel: int) -> NDArray[np.float64]:
    """Height in µm of the sharpest place in each cell, NaN where there is none; in an order common to channels."""
    z_um, found = stack.z_um, []
    assert z_um is not None  # noqa: S101 - narrows the type
    for y in _spread(stack.shape[3]):
        for x in _spread(stack.shape[4]):
            counts = stack.read(0, channel, range(stack.shape[2]), y, x).astype(np.float32)
            energy = np.stack([_cells(tenengrad(plane)) for plane in np.nan_to_num(counts)])
            found.append(energy.reshape(len(counts), -1))
    energies = np.concatenate(found, axis=1)  # Z cells
    best = energies.argmax(axis=0)
    peak, ground = energies.max(axis=0), np.median(energies, axis=0)
    good = (best > 0) & (best < len(energies) - 1) & (peak > _RISE * ground)
    good &= peak >= np.quantile(peak, 1 - _STRONGEST)
    inner = best.clip(1, max(len(energies) - 2, 1))
    if len(energies) < 3:
        return np.full(len(best), np.nan)
    before, here, after = (
        np.log(np.maximum(np.take_along_axis(energies, (inner + by)[None], axis=0)[0], 1e-30)) for by in (-1, 0, 1)
    )
    bend = before - 2 * here + after
    shift = np.clip(np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0), -0.5, 0.5)
    return np.where(good, np.interp(best + shift, np.arange(len(z_um)), z_um), np.nan)


def _cells(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of cells, the last ones perhaps of fewer pixels."""
    y, x = (np.arange(0, size, _CELL) for size in plane.shape)
    area = np.outer(np.diff([*y, plane.shape[0]]), np.diff([*x, plane.shape[1]]))
    return np.asarray(np.add.reduceat(np.add.reduceat(plane, y, axis=0), x, axis=1) / area, np.float32)


def _spread(length: int) -> list[slice]:
    side = min(_WINDOW, length)
    count = min(_WINDOWS, -(-length // side))
    return [slice(int(at), int(at) + side) for at in np.linspace(0, length - side, count).round()]


def moved_weights(weights: Array, z_um: NDArray[Any], um: float, *, whole: bool) -> Array:
    """Move weights along z, so that a channel is read at its own focus.

    Args:
        weights: Z h w, sum one over Z.
        z_um: positions of these slices.
        um: by how much.
        whole: to whole slices, so that a pixel that comes from one slice still does.

    Returns:
        Z h w, sum one over Z; what would leave the stack stays in its outermost slice.
    """
    order = np.argsort(z_um)
    place = np.interp(z_um + um, np.asarray(z_um)[order], order.astype(np.float64))
    place = np.rint(place) if whole else place
    share = np.maximum(1 - np.abs(np.arange(len(z_um))[:, None] - place), 0)  # of each slice in each moved one
    return namespace(weights).tensordot(like(share.astype(np.float32), weights), weights, axes=1)
