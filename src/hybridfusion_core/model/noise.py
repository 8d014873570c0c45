"""From raw counts to the network's guide: noise of unit size everywhere, contrast of unit size in the field.

Shot noise makes bright slices look sharp to anything that measures gradients. The noise is therefore
estimated from the stack itself, as variance = v₀ + gain × (counts − low), and the counts are mapped so that
its standard deviation is one at every brightness (generalised Anscombe transform; Foi et al. 2008,
doi:10.1109/TIP.2008.2001399). Every estimate is equivariant: counts a·x + b (a > 0) give the same guide.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.model.slice_light import SliceLight

CELL = 8  # pixels; noise is measured in cells of this side on one global grid
MAX_CELLS = 2**18  # per field; a larger field is sampled evenly
_BINS = 12
_QUANTILE = 0.1  # the quietest cells of a brightness show noise rather than structure
_QUANTILE_OF_WHITE = 0.535  # the same quantile of a cell's noise energy for white noise of variance 1
_NOISE_FLOOR = 1e-3  # of the field's contrast: quieter than this, rounding is mistaken for noise

_LUMINANCE = (0.2125, 0.7154, 0.0721)  # ITU-R BT.709, as skimage.color.rgb2gray rounds it

_Parts = dict[tuple[int, int, int], NDArray[np.float32]]  # values of cells by the Y, X and Z of their region


@dataclass(frozen=True)
class NoiseModel:
    """variance(y) = variance + gain × max(y − low, 0), in squared counts.

    Attributes:
        low: brightness below which the variance is constant, counts.
        variance: at `low`, > 0.
        gain: counts per photon, ≥ 0.
    """

    low: float
    variance: float
    gain: float

    def stabilise(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Map counts to units of their own noise.

        Args:
            counts: any shape, any real dtype.

        Returns:
            Same shape; the integral of 1/√variance from `low`, so that noise has standard deviation 1.
        """
        above = np.asarray(counts, dtype=np.float32) - np.float32(self.low)
        sd = np.float32(np.sqrt(self.variance))
        bright = np.maximum(above, 0)
        # 2/g (√(v + g·y) − √v), written so that it does not cancel for small gains.
        with np.errstate(invalid="ignore"):  # of infinite pixels, which count as NaN
            stable = 2 * bright / (np.sqrt(np.float32(self.variance) + np.float32(self.gain) * bright) + sd)
        return np.asarray(stable + np.minimum(above, 0) / sd, dtype=np.float32)


@dataclass(frozen=True)
class FieldStatistics:
    """What the guide of a whole field is normalised with; never taken from a tile.

    Attributes:
        models: noise of every channel that takes part in the guide.
        centre: subtracted from the stabilised guide, in noise standard deviations.
        scale: contrast of the field in noise standard deviations, ≥ 1.
        blank: indices of Z of the slices that are constant in every channel that decides: they get no weight.
        blank_of: index of C and Z of further slices that get no weight in that channel, which is saturated there.
        light: of the slices that are not `blank`, one for each of `models`: how much each got, where they flicker or
            bleach; () if all got the same.
    """

    models: tuple[NoiseModel, ...]
    centre: float
    scale: float
    blank: tuple[int, ...] = ()
    blank_of: tuple[tuple[int, int], ...] = ()
    light: tuple[SliceLight, ...] = ()

    @property
    def noise(self) -> float:
        """Standard deviation of the noise in the normalised guide."""
        return 1 / self.scale

    def guide(self, channels: Sequence[NDArray[Any]], first: int = 0) -> NDArray[np.float32]:
        """Make the network's input from the channels that decide.

        Channels are added in units of their own noise, which weights each by its signal-to-noise ratio.

        Args:
            channels: Z Y X counts each, in the order of `models`.
            first: place of the first slice among all that are not blank, which `light` counts.

        Returns:
            Z Y X, contrast of order one.
        """
        matched = self.light and [light.matched(each, first) for light, each in zip(self.light, channels, strict=True)]
        channels = matched or channels
        stable = _combine([model.stabilise(counts) for model, counts in zip(self.models, channels, strict=True)])
        return (stable - np.float32(self.centre)) / np.float32(self.scale)


def luminance(planes: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.float32]:
    """Grey image by which a colour image decides: in training, in fine-tuning and in fusing.

    Args:
        planes: red, green and blue, of one shape and any real dtype; or an array 3 …

    Returns:
        The same shape, not rounded: rounding would look like noise.
    """
    grey = np.zeros(planes[0].shape, dtype=np.float32)
    for share, plane in zip(_LUMINANCE, planes, strict=True):
        grey += np.float32(share) * plane
    return grey


class StatisticsCollector:
    """Gathers noise and brightness of a field's cells, region by region.

    Cells lie on a grid fixed to the plane, so the result does not depend on how regions are cut, as long as
    they start at multiples of `CELL` and no two overlap; nor does it depend on the order in which they come.

    Args:
        channels: how many channels take part in the guide.
        plane: Y and X of the whole plane.
        slices: Z.
    """

    def __init__(self, channels: int, plane: tuple[int, int], slices: int) -> None:
        cells = max(plane[0] // CELL, 1) * max(plane[1] // CELL, 1) * slices
        if not channels:
            raise ValueError("no channel takes part in the guide")
        self._stride = int(np.ceil(np.sqrt(max(cells / MAX_CELLS, 1))))
        self._means: list[_Parts] = [{} for _ in range(channels)]
        self._energies: list[_Parts] = [{} for _ in range(channels)]

    def add(self, channel: int, counts: NDArray[Any], y: int, x: int, z: int = 0) -> None:
        """Take a region into account.

        Args:
            channel: index among the channels that take part.
            counts: Z Y X; at least one cell large, parts of cells at the far edges are left out.
            y: row of its first pixel in the plane, a multiple of `CELL`.
            x: column of its first pixel.
            z: number of its first slice among those that are taken into account.
        """
        cells = self._cells(counts, y, x)  # n CELL CELL
        cells = np.where(np.isfinite(cells), cells, np.nan)
        centred = cells - cells.mean(axis=(1, 2), keepdims=True)
        # Second differences along both axes leave planes and ramps out; /6 keeps white noise's variance
        # (Immerkær 1996, doi:10.1006/cviu.1996.0060).
        detail = np.diff(np.diff(centred, 2, axis=1), 2, axis=2) / 6
        self._means[channel][y, x, z] = cells.mean(axis=(1, 2))
        self._energies[channel][y, x, z] = np.square(detail).mean(axis=(1, 2))

    def _cells(self, counts: NDArray[Any], y: int, x: int) -> NDArray[np.float32]:
        slices, height, width = counts.shape
        rows, columns = height // CELL, width // CELL
        cells = counts[:, : rows * CELL, : columns * CELL].reshape(slices, rows, CELL, columns, CELL)
        first_y, first_x = -(y // CELL) % self._stride, -(x // CELL) % self._stride
        cells = cells[:, first_y :: self._stride, :, first_x :: self._stride]
        return cells.transpose(0, 1, 3, 2, 4).reshape(-1, CELL, CELL).astype(np.float32)  # -> n CELL CELL

    def finish(self, known: NoiseModel | None = None, without: Collection[int] = ()) -> FieldStatistics:
        """Estimate noise and contrast from everything that was added.

        Args:
            known: noise of the camera, the same for every channel; None estimates it.
            without: numbers of slices that do not count, as they were given to `add`.
        """
        # In one order: sums of floats depend on it, and the channels' cells must be the same ones.
        means, energies = (
            np.stack(
                [
                    np.concatenate([parts[place] for place in sorted(parts) if place[2] not in without])
                    for parts in of_channels
                ]
            )
            for of_channels in (self._means, self._energies)
        )  # channel n each
        whole = np.isfinite(means).all(axis=0)  # cells with a NaN or infinite pixel say nothing
        means, energies = (means[:, whole], energies[:, whole]) if whole.any() else (np.zeros_like(means),) * 2
        pairs = zip(means, energies, strict=True)
        models = tuple(known or fit_noise(mean, energy) for mean, energy in pairs)
        stable = _combine([model.stabilise(mean) for model, mean in zip(models, means, strict=True)])
        return FieldStatistics(models, centre=float(np.median(stable)), scale=max(float(np.std(stable)), 1.0))


def field_statistics(channels: Sequence[NDArray[Any]]) -> FieldStatistics:
    """Statistics of a field that is in memory.

    Args:
        channels: Z Y X counts each, Y and X of at least `CELL` pixels.
    """
    slices, height, width = channels[0].shape
    collector = StatisticsCollector(len(channels), (height, width), slices)
    for index, counts in enumerate(channels):
        collector.add(index, counts, 0, 0)
    return collector.finish()


def fit_noise(means: NDArray[np.float32], energies: NDArray[np.float32]) -> NoiseModel:
    """Fit the noise to brightness and energy of cells.

    Args:
        means: n, mean counts of each cell.
        energies: n, mean squared second difference of each cell.

    Returns:
        A model with non-negative gain whose variance is at least `_NOISE_FLOOR`² of the contrast's.
    """
    lively = energies > 0  # saturated, padded and clipped cells have no noise to measure
    contrast = float(np.std(means[lively] if lively.any() else means, dtype=np.float64))
    floor = (_NOISE_FLOOR * contrast) ** 2
    if not lively.any():
        return NoiseModel(low=float(means.min()), variance=floor or 1.0, gain=0.0)
    means, energies = means[lively], energies[lively]
    order = np.argsort(means, kind="stable")
    groups = [group for group in np.array_split(order, min(_BINS, max(order.size // 24, 1))) if group.size]
    brightness = np.array([means[group].mean(dtype=np.float64) for group in groups])
    variance = np.array([np.quantile(energies[group], _QUANTILE) for group in groups], dtype=np.float64)
    variance = np.maximum(variance / _QUANTILE_OF_WHITE, floor) + np.finfo(np.float32).tiny
    span = max(brightness[-1] - brightness[0], np.finfo(np.float32).tiny)
    # Relative residuals, because an energy's error is proportional to it.
    lines = np.stack([np.ones_like(variance), (brightness - brightness[0]) / span], axis=1) / variance[:, None]
    at_low, rise = _nonnegative(lines, np.ones_like(variance))
    at_low = max(at_low, floor, 1e-3 * float(variance.max()))
    return NoiseModel(low=float(brightness[0]), variance=float(at_low), gain=float(rise / span))


def _nonnegative(lines: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Least squares in two unknowns that are at least 0: what SciPy's nnls gives, whose import takes 0.2 s."""
    both = np.linalg.lstsq(lines, values)[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    # The smallest error lies at an edge, where one of the two is 0.
    alone = np.maximum((lines.T @ values) / np.maximum((lines**2).sum(axis=0), np.finfo(np.float64).tiny), 0)
    errors = [((lines[:, index] * alone[index] - values) ** 2).sum() for index in (0, 1)]
    return (float(alone[0]), 0.0) if errors[0] <= errors[1] else (0.0, float(alone[1]))


def _combine(stable: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    total = stable[0]
    for other in stable[1:]:
        total = total + other
    return np.asarray(total / np.float32(np.sqrt(len(stable))), dtype=np.float32)
