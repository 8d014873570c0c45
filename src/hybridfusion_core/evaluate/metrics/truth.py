"""How far an image or a height map is from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter
from skimage.metrics import structural_similarity

REACH = 8  # px on either side of a depth step that count as its boundary
HIGHEST_PSNR = 100.0  # dB; the value of a perfect copy, so that means over stacks stay finite
_NEIGHBOURHOOD = 7  # px; side of the square in which contrast is measured
_SSIM_SIGMA = 1.5


def psnr(truth: NDArray[Any], image: NDArray[Any], data_range: float, where: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio, 20 log₁₀(range / √MSE).

    Args:
        truth: Y X, counts.
        image: Y X, counts.
        data_range: what counts as full scale, > 0.
        where: Y X; pixels that count, all by default.

    Returns:
        dB, at most `HIGHEST_PSNR`; NaN where no pixel counts.
    """
    error = np.square(np.asarray(image, dtype=np.float64) - truth)
    error = error if where is None else error[where]
    if not error.size:
        return np.nan
    floor = data_range**2 * 10 ** (-HIGHEST_PSNR / 10)
    return float(10 * np.log10(data_range**2 / max(float(error.mean()), floor)))


def ssim(truth: NDArray[Any], image: NDArray[Any], data_range: float) -> float:
    """Structural similarity with a Gaussian window of σ 1.5 px (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Args:
        truth: Y X, counts.
        image: Y X, counts.
        data_range: what counts as full scale, > 0.

    Returns:
        1 for a perfect copy; NaN for planes smaller than the window of 11 px.
    """
    if min(truth.shape) < 11:
        return np.nan
    pair = (np.asarray(each, dtype=np.float64) for each in (truth, image))
    return float(
        structural_similarity(
            *pair, data_range=data_range, gaussian_weights=True, sigma=_SSIM_SIGMA, use_sample_covariance=False
        )
    )


def boundary_band(height: NDArray[Any], least_step: float = 1.0, reach: int = REACH) -> NDArray[np.bool_]:
    """Pixels near a step in depth, where a defocused foreground veils the background.

    Args:
        height: Y X, slices.
        least_step: between two neighbouring pixels, slices; a larger difference is a step.
        reach: distance in px, along rows and columns, that still belongs to the band.

    Returns:
        Y X.
    """
    step = np.zeros(height.shape, dtype=bool)
    step[1:] |= np.abs(np.diff(height, axis=0)) > least_step
    step[:, 1:] |= np.abs(np.diff(height, axis=1)) > least_step
    return np.asarray(maximum_filter(step, 2 * reach + 1))


def textured(truth: NDArray[Any], noise: NDArray[Any] | float, data_range: float) -> NDArray[np.bool_]:
    """Where the true image has detail that can be told from noise.

    Detail is the standard deviation in 7 × 7 px; it has to exceed half the noise's and one per cent of the range
    (together, as a root of squares): the rule by which the synthetic scenes weight their own structure.

    Args:
        truth: Y X, counts.
        noise: standard deviation of the noise of one slice, counts; Y X or one number.
        data_range: what counts as full scale.

    Returns:
        Y X.
    """
    values = np.asarray(truth, dtype=np.float64)
    values = values - values.mean()
    mean = uniform_filter(values, _NEIGHBOURHOOD)
    variance = uniform_filter(np.square(values), _NEIGHBOURHOOD) - np.square(mean)
    return np.asarray(variance > 0.25 * np.square(noise) + (0.01 * data_range) ** 2)


def height_error(truth: NDArray[Any], height: NDArray[Any], where: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute error of a height map.

    Args:
        truth: Y X, slices; NaN where there is no surface.
        height: Y X, slices; NaN where nothing was found to be in focus. Neither is counted.
        where: Y X; pixels that count, all by default.

    Returns:
        Slices; NaN if no pixel counts.
    """
    error = np.abs(np.asarray(height, dtype=np.float64) - truth)
    error = error if where is None else error[where]
    known = error[np.isfinite(error)]
    return float(known.mean()) if known.size else np.nan


def body_bias(truth: NDArray[Any], image: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Error of the mean intensity of every labelled body, relative to its true mean.

    Args:
        truth: Y X, counts.
        image: Y X, counts.
        labels: Y X, whole numbers; 0 is background.

    Returns:
        One number per label, ascending; 0.02 is 2 % too bright.
    """
    bodies = np.unique(labels[labels > 0])
    means = [
        np.array([float(plane[labels == body].mean(dtype=np.float64)) for body in bodies]) for plane in (image, truth)
    ]
    return np.asarray(means[0] / means[1] - 1)
