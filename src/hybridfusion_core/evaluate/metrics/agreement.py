"""How well a fused image agrees with its own inputs, where no truth is known.

Both measures prefer copies of the inputs, noise and all: a fusion that averages noise away scores lower. They
describe a result and never decide a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate

Border = Literal["replicate", "zero"]

# Xydeas & Petrović 2000, section "Performance measure": Γ, κ and σ of the two sigmoids.
_STRENGTH = (0.9994, -15.0, 0.5)
_ORIENTATION = (0.9879, -22.0, 0.8)
_SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
_BT601 = (0.299, 0.587, 0.114)
_BINS = 256


def published_grey(planes: NDArray[Any]) -> NDArray[Any]:
    """Grey image of a colour image, as published figures take it (ITU-R BT.601); nothing is decided by it.

    Args:
        planes: 3 … Y X, red, green and blue.

    Returns:
        … Y X in the same dtype; whole numbers are rounded.
    """
    grey = np.tensordot(np.asarray(_BT601), planes.astype(np.float64), axes=1)
    return np.asarray(np.rint(grey) if planes.dtype.kind in "iu" else grey).astype(planes.dtype)


def edge_preservation(slices: Sequence[NDArray[Any]], fused: NDArray[Any], border: Border = "replicate") -> float:
    """Q^{AB/F}: how much of the inputs' edges is found in the fused image.

    Xydeas & Petrović, Electronics Letters 36 (2000) 308, doi:10.1049/el:20000267, equations 1–6 with the published
    constants and L = 1. For two inputs this is the paper's formula; for more, every input weighs with its own
    gradient, Σ_z Σ Q^{zF} g_z / Σ_z Σ g_z. Orientations are compared modulo π.

    Args:
        slices: Y X each; colour images by their luminance.
        fused: Y X.
        border: what lies beyond the image. The implementations behind published figures pad with zeros; its
            artificial edge is the same in all images and raises Q by about 0.009 for images of 520² px.

    Returns:
        0 to 0.975 (the sigmoids do not reach 1); NaN if no input has an edge.
    """
    strength, angle = _edges(fused, border)
    kept = total = 0.0
    for plane in slices:
        own, own_angle = _edges(plane, border)
        low, high = np.minimum(own, strength), np.maximum(own, strength)
        relative = np.divide(low, high, out=np.ones_like(low), where=high > 0)
        aligned = np.abs(np.abs(own_angle - angle) - np.pi / 2) / (np.pi / 2)
        kept += float((_sigmoid(relative, _STRENGTH) * _sigmoid(aligned, _ORIENTATION) * own).sum())
        total += float(own.sum())
    return kept / total if total > 0 else np.nan


def mutual_information(first: NDArray[Any], second: NDArray[Any], fused: NDArray[Any]) -> float:
    """Normalised mutual information of a pair, 2 [I(A,F)/(H(A)+H(F)) + I(B,F)/(H(B)+H(F))].

    Hossny et al., Electronics Letters 44 (2008) 1066, doi:10.1049/el:20081754, with 256 bins: the grey values of
    8-bit images, the common range of anything else.

    Args:
        first: Y X; colour images by their luminance.
        second: Y X.
        fused: Y X.

    Returns:
        0 (independent) to 2 (three times the same image). An input without contrast counts 0.
    """
    binned = _binned([first, second, fused])
    return 2 * (_shared(binned[0], binned[2]) + _shared(binned[1], binned[2]))


def _edges(image: NDArray[Any], border: Border) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strength of edges and their orientation in (−π/2, π/2]."""
    mode = "nearest" if border == "replicate" else "constant"
    values = np.asarray(image, dtype=np.float64)
    along_x, along_y = (correlate(values, kernel, mode=mode) for kernel in (_SOBEL, _SOBEL.T))
    upright = along_x == 0
    slope = np.divide(along_y, along_x, out=np.zeros_like(along_y), where=~upright)
    return np.hypot(along_x, along_y), np.where(upright, np.pi / 2, np.arctan(slope))


def _sigmoid(value: NDArray[np.float64], constants: tuple[float, float, float]) -> NDArray[np.float64]:
    top, slope, middle = constants
    return top / (1 + np.exp(slope * (value - middle)))


def _binned(images: list[NDArray[Any]]) -> list[NDArray[np.intp]]:
    if all(image.dtype == np.uint8 for image in images):
        return [image.astype(np.intp) for image in images]
    low = min(float(image.min()) for image in images)
    span = max(float(image.max()) for image in images) - low or 1.0
    scaled = ((image.astype(np.float64) - low) * (_BINS / span) for image in images)
    return [np.minimum(each.astype(np.intp), _BINS - 1) for each in scaled]


def _shared(image: NDArray[np.intp], fused: NDArray[np.intp]) -> float:
    """I(A,F) / (H(A) + H(F)), 0 to 1/2."""
    joint = np.bincount((image * _BINS + fused).ravel(), minlength=_BINS**2).reshape(_BINS, _BINS) / image.size
    apart = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    return (apart - _entropy(joint)) / apart if apart > 0 else 0.0


def _entropy(share: NDArray[np.float64]) -> float:
    known = share[share > 0]
    return float(-(known * np.log2(known)).sum())
