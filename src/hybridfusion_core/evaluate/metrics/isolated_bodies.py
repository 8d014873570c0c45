"""What a result says of the dark around bright bodies, where only their own slice can be in focus.

A bead or a nucleus on dark ground lights its surroundings in every slice, and is in focus in one. Around it a
decision is right if it is "nothing in focus" or the body's own slice, and light is right if it is that slice's. No
truth is needed to know that.

Distances are from a body's edge, where its own light falls to half; a bead of 4 px has its rings at 12 to 34 px
(decision) and 8 to 18 px (light) from its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, maximum_filter
from skimage.filters import threshold_otsu

RING = (8.0, 30.0)  # px from the edge: whose slice is decided there
HAZE = (4.0, 14.0)  # px: how bright it is there
_REACH = 36.0  # px that a body's light reaches: beyond, nothing is in focus; within, no body of another slice may be
_CONFIDENT = 0.5
_BRIGHT = 0.05  # of the brightest body's light above the ground: dimmer ones are only kept clear of
_CLEAR = 20.0  # standard deviations above the ground
_PEAK = 9  # px across which a peak is the brightest
_LARGEST = 0.02  # of the plane, of one body
_LEAST_GROUND = 0.2  # of the plane: with less, there is no dark to speak of


@dataclass(frozen=True)
class DarkField:
    """A stack of bright bodies on dark ground.

    Attributes:
        count: of the bodies.
        bodies: Y X, bool, their own pixels.
        slice: Y X, the slice in which the nearest body is in focus, from 0.
        ring: Y X, bool, where the decision is asked for.
        haze: Y X, bool, where the light is asked for.
        far: Y X, bool, beyond the light of all bodies.
    """

    count: int
    bodies: NDArray[np.bool_]
    slice: NDArray[np.intp]
    ring: NDArray[np.bool_]
    haze: NDArray[np.bool_]
    far: NDArray[np.bool_]


def dark_field(stack: NDArray[Any]) -> DarkField | None:
    """Find bright bodies on dark ground; None if the stack shows no such thing.

    Ground and its noise are the median and the scaled median deviation of the slices' maximum. What exceeds the ground
    clearly is a peak, and its body what exceeds half of it; bodies of a twentieth of the brightest peak or less are
    only kept clear of. A body's slice is the one in which it is brightest; where bodies of different slices are within
    reach, nobody is asked.

    Args:
        stack: Z Y X counts.
    """
    bright, dim = _bodies(_smoothed_top(stack))
    outside = distance_transform_edt(~(bright | dim))
    if not bright.any() or (outside >= RING[0]).mean() < _LEAST_GROUND:
        return None
    labels, count = label(bright)
    if np.bincount(labels.ravel())[1:].max() > _LARGEST * labels.size:
        nowhere = np.zeros(bright.shape, dtype=bool)
        return DarkField(0, bright, np.zeros(bright.shape, dtype=np.intp), nowhere, nowhere, outside > _REACH)
    own = np.array([stack[:, labels == body].mean(axis=1, dtype=np.float64).argmax() for body in range(1, count + 1)])
    distance, nearest = distance_transform_edt(~bright, return_indices=True)
    slices = own[labels[tuple(nearest)] - 1]
    asked = distance_transform_edt(~dim) >= RING[0] if dim.any() else np.ones(bright.shape, dtype=bool)
    for each in np.unique(own):
        near = distance_transform_edt(~np.isin(labels, np.flatnonzero(own == each) + 1)) < _REACH
        asked &= ~(near & (np.abs(slices - each) > 1))
    ring, haze = ((distance >= low) & (distance < high) & asked for low, high in (RING, HAZE))
    return DarkField(count, bright, slices, ring, haze, outside > _REACH)


def _smoothed_top(stack: NDArray[Any]) -> NDArray[np.float64]:
    """Maximum over Z, smoothed by a pixel; Y X."""
    return np.asarray(gaussian_filter(stack.max(axis=0).astype(np.float64), 1))


def _bodies(top: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where bright bodies are, and where dim ones; Y X each."""
    light = top - np.median(top)
    noise = 1.4826 * float(np.median(np.abs(light)))
    peaks = (light == maximum_filter(light, _PEAK)) & (light > _CLEAR * noise) & (light > 0)
    bright, dim = np.zeros(top.shape, dtype=bool), np.zeros(top.shape, dtype=bool)
    for y, x in zip(*np.nonzero(peaks), strict=True):
        parts, _ = label(light > 0.5 * light[y, x])
        (bright if light[y, x] > _BRIGHT * light.max() else dim)[parts == parts[y, x]] = True
    return bright, dim


def around_bodies(
    field: DarkField,
    stack: NDArray[Any],
    fused: NDArray[Any],
    decision: NDArray[Any] | None = None,
    confidence: NDArray[Any] | None = None,
) -> dict[str, float]:
    """Measure the dark around bodies.

    Args:
        field: of the stack.
        stack: Z Y X counts.
        fused: Y X, counts.
        decision: Y X, slice from 1, 0 where nothing is in focus; None leaves out what needs it.
        confidence: Y X in [0, 1], NaN where nothing is in focus; likewise.

    Returns:
        "false_ring": share of the ring whose decision is neither 0 nor within a slice of the nearest body's;
        "false_ring_sure": and whose confidence exceeds one half; "glow": light of the fused ring above its ground, over
        that of the bodies' own slices; "far_decided": share of the far ground that has a decision; "bodies_kept": share
        of the bodies' own pixels that have one. What cannot be measured is left out.
    """
    found = {}
    if field.count and field.haze.any():
        own = np.take_along_axis(stack, field.slice[None], axis=0)[0]
        lights = [_above_ground(image, field) for image in (fused, own)]
        if lights[1] > 0:
            found["glow"] = lights[0] / lights[1]
    if decision is None:
        return found
    found["bodies_kept"] = float((decision[field.bodies] > 0).mean())
    if field.far.any():
        found["far_decided"] = float((decision[field.far] > 0).mean())
    if field.count and field.ring.any():
        decided = decision[field.ring].astype(np.int64)
        mistaken = (decided > 0) & (np.abs(decided - 1 - field.slice[field.ring]) > 1)
        found["false_ring"] = float(mistaken.mean())
        if confidence is not None:
            found["false_ring_sure"] = float((mistaken & (np.nan_to_num(confidence[field.ring]) > _CONFIDENT)).mean())
    return found


def _above_ground(image: NDArray[Any], field: DarkField) -> float:
    """Mean light around bodies above that of the ground, or of the outer ring if all ground is near bodies."""
    ground = field.far if field.far.any() else field.ring & ~field.haze
    return float(image[field.haze].mean(dtype=np.float64)) - float(np.median(image[ground]))


def bright_kept(stack: NDArray[Any], decision: NDArray[Any]) -> float:
    """Share of the brightest structure that has a decision: who says "nothing" everywhere keeps none of it.

    The brightest structure is the brighter quarter of what exceeds Otsu's threshold.

    Args:
        stack: Z Y X counts; brightness is their maximum over Z, smoothed by a pixel.
        decision: Y X, 0 where nothing is in focus.
    """
    top = _smoothed_top(stack)
    if np.ptp(top) <= 0:
        return float("nan")
    structure = top > threshold_otsu(top)
    return float((decision[structure & (top >= np.quantile(top[structure], 0.75))] > 0).mean())
