"""Small copies of a result, gathered while it is written: what a preview needs of a plane of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.montage import Montage

_LIMIT = 1024  # px; longest side of a small copy
_BAND = 1024  # rows read at a time


class Thumbnails:
    """Arrays that pass everything on, and keep a binned copy of the first plane of the first time point.

    Args:
        arrays: where the result goes, T C 1 Y X each.
        spec: of the result.
    """

    def __init__(self, arrays: Mapping[str, Any], spec: ResultSpec) -> None:
        plane = spec.shape[2:]
        self.bin = thumbnail_bin(plane)
        small = tuple(max(size // self.bin, 1) for size in plane)
        self.copies: dict[str, NDArray[Any]] = {
            name: np.zeros((shape[1], *small), dtype) for name, (shape, dtype) in spec.array_shapes().items()
        }
        self.arrays: dict[str, Any] = {name: _Tee(array, self, name) for name, array in arrays.items()}

    def keep(self, name: str, channel: int, rows: slice, columns: slice, values: NDArray[Any]) -> None:
        """Bin a block, whose origin is a multiple of the bin, into the copy."""
        copy = self.copies[name][channel]
        binned = shrink(values, self.bin, labels=name == "decision")
        y, x = rows.start // self.bin, columns.start // self.bin
        target = copy[y : y + binned.shape[0], x : x + binned.shape[1]]
        target[...] = binned[: target.shape[0], : target.shape[1]]


class _Tee:
    """One array of `Thumbnails`."""

    def __init__(self, array: Any, owner: Thumbnails, name: str) -> None:
        self._array, self._owner, self._name = array, owner, name

    def __setitem__(self, key: tuple[int, int, int, slice, slice], values: NDArray[Any]) -> None:
        self._array[key] = values
        t, channel, z, rows, columns = key
        if t == 0 and z == 0:
            self._owner.keep(self._name, channel, rows, columns, values)


def thumbnail_bin(plane: tuple[int, int]) -> int:
    """Smallest power of two that brings a plane Y X to at most 1024 px; blocks start at its multiples."""
    factor = 1
    while max(plane) > _LIMIT * factor:
        factor *= 2
    return factor


def shrink(values: NDArray[Any], factor: int, *, labels: bool = False) -> NDArray[Any]:
    """Bin Y X by averaging (labels: by taking one), parts of bins at the far edges left out; keeps the dtype."""
    if factor == 1:
        return values
    height, width = (max(size // factor, 1) * factor for size in values.shape)
    whole = values[:height, :width]
    if labels or min(whole.shape) < factor:
        return whole[::factor, ::factor]
    return np.asarray(block_reduce(whole, factor, np.mean)).astype(values.dtype)


def slice_thumbnail(stack: Stack, channel: int, z: int) -> NDArray[Any]:
    """Binned copy of one slice of the first time point, read in bands of bounded size. Y X."""
    height, width = stack.shape[3:]
    factor = thumbnail_bin((height, width))
    bands = []
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        if rows.stop - top >= factor or top == 0:
            bands.append(shrink(stack.read(0, channel, [z], rows, slice(0, width))[0], factor))
    return np.concatenate(bands)


def montage_of(
    stack: Stack, channels: Sequence[int], slices: Sequence[int], spec: ResultSpec, thumbnails: Thumbnails
) -> Montage:
    """Lay out what a preview shows of the first time point.

    Several channels are shown together in their own colours; the decision and the height are those of the
    first channel, and the slice beside them is the one that gave most of the fused image's detail.

    Args:
        stack: what was fused.
        channels: indices of the channels that were fused.
        slices: indices of the slices that were fused.
        spec: of the result.
        thumbnails: gathered while it was written.
    """
    copies = thumbnails.copies
    decision = copies["decision"][0] if "decision" in copies else None
    sharpest = sharpest_slice(copies["fused"][0], decision, slices)
    planes = np.stack([slice_thumbnail(stack, channel, sharpest) for channel in channels])
    heights = [index for index, channel in enumerate(spec.maps) if channel.product == "height"]
    pixel_um = stack.x.step_um
    shown, beside = _show(copies["fused"], planes, spec)
    return Montage(
        sharpest=beside,
        fused=shown,
        decision=decision,
        height=copies["maps"][heights[0]] if heights else None,
        slices=stack.shape[2],
        sharpest_slice=sharpest + 1,
        height_unit="slices" if stack.z_um is None else "µm",
        pixel_um=None if pixel_um is None else pixel_um * thumbnails.bin,
        title=spec.name,
    )


def sharpest_slice(fused: NDArray[Any], decision: NDArray[Any] | None, slices: Sequence[int]) -> int:
    """Index of the slice from which most gradient energy was taken; the middle one if nothing was decided."""
    if decision is None or not decision.any() or min(fused.shape) < 2:
        return slices[len(slices) // 2]
    energy = sum(np.square(slope) for slope in np.gradient(fused.astype(np.float64)))
    energy = np.minimum(energy, np.nanquantile(energy, 0.999))  # one hot pixel is no detail
    return int(np.bincount(decision.ravel(), energy.ravel())[1:].argmax())


def _show(fused: NDArray[Any], beside: NDArray[Any], spec: ResultSpec) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make one picture of C Y X each: grey counts, or Y X 3 in [0, 1] with the same stretch for both."""
    if len(fused) == 1:
        return fused[0], beside[0]
    pictures = [np.zeros((*fused.shape[1:], 3)) for _ in range(2)]
    for index, channel in enumerate(spec.channels):
        low, high = np.nanpercentile(fused[index], (0.5, 99.8))
        color = np.array([int((channel.color or "FFFFFF")[at : at + 2], 16) / 255 for at in (0, 2, 4)])
        for picture, planes in zip(pictures, (fused, beside), strict=True):
            stretched = np.clip((planes[index] - float(low)) / max(float(high - low), 1e-12), 0, 1)
            np.add(picture, stretched[..., None] * color, out=picture)
    return np.clip(pictures[0], 0, 1), np.clip(pictures[1], 0, 1)
