"""How evenly a microscope lights its field, and what its camera counts in the dark: read from files, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.shading.harmony import read_surfaces

AUTO = "auto"  # in place of a file: estimated over the fields of a plate
_INDEX = ".xml"
_DIMMEST = 0.01  # of the mean; what lies below lights nothing that could be measured


@dataclass(frozen=True)
class Profiles:
    """What is taken out.

    Attributes:
        flat: C Y X float32, mean 1 in each channel; C is 1 where one serves all. None: the light is even.
        dark: C Y X float32 counts, Y and X may be 1. None: nothing is counted in the dark.
        about: plain JSON values for provenance.
    """

    flat: NDArray[np.float32] | None
    dark: NDArray[np.float32] | None
    about: dict[str, Any]


def read_profiles(
    flat: str | None, dark: str | None, plane: tuple[int, int], channels: Sequence[str], name: str
) -> Profiles:
    """Read a flat field and a dark frame, and check that they fit a stack.

    Args:
        flat: any image that `fuse` reads, or an .npy; several slices or time points are averaged. Or the index (.xml)
            of a Harmony plate, which holds polynomials.
        dark: likewise.
        plane: Y and X of the stack.
        channels: names of its channels; files have as many, or one that serves all.
        name: of the stack.

    Raises:
        UserInputError: one has another size, or is no such picture.
    """
    shade = None if dark is None else _picture(dark, "--dark", plane, channels, name)
    if shade is not None and not np.isfinite(shade).all():
        raise _unfit(dark, "--dark", "NaN or infinite pixels", "counts in the dark")
    light = None if flat is None else _picture(flat, "--flat-field", plane, channels, name)
    if light is not None:
        if shade is not None and Path(str(flat)).suffix not in (".npy", _INDEX):  # others have it taken off already
            light = light - shade
        mean = light.mean(axis=(1, 2), keepdims=True)
        if not np.isfinite(light).all() or (mean <= 0).any() or (light <= _DIMMEST * mean).any():
            raise _unfit(flat, "--flat-field", "zeros, negative or NaN pixels", "light everywhere")
        light = (light / mean).astype(np.float32)
    about = {key: Path(path).name for key, path in (("flat_field", flat), ("dark", dark)) if path is not None}
    return Profiles(light, shade, about)


def _picture(path: str, option: str, plane: tuple[int, int], channels: Sequence[str], name: str) -> NDArray[np.float32]:
    if path == AUTO:
        raise UserInputError(
            f"{option} auto is estimated over the fields of a plate, and {name} is one field; expected the path of a "
            "picture. Give one, or fuse the plate with `batch`."
        )
    if Path(path).suffix.lower() == _INDEX:
        found = read_surfaces(path, "Foreground" if option == "--flat-field" else "Background", channels)
    else:
        found = _array(path, option)
    if found.shape[0] not in (1, len(channels)) or found.shape[1:] not in (plane, (1, 1)):
        c, y, x = found.shape
        size = f"{plane[0]} × {plane[1]}"
        raise UserInputError(
            f"{option} {path!r} has {c} channel(s) of {y} × {x} px, {name} has {len(channels)} of {size}; "
            "expected the same size, and one channel for each or one for all. Choose the picture that was taken with "
            "this camera and binning."
        )
    return found


def _array(path: str, option: str) -> NDArray[np.float32]:
    if Path(path).suffix == ".npy":
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserInputError(
                f"{option} {path!r} cannot be read ({type(error).__name__}); expected a picture. Choose another file."
            ) from error
        if found.ndim not in (2, 3) or found.dtype.kind not in "uif":
            raise _unfit(path, option, f"an array of {found.ndim} axes", "C Y X or Y X")
        values = np.asarray(found, np.float32)
        return values if found.ndim == 3 else values[np.newaxis]
    with open_stack(path, axes=None) as stack:
        t, c, z, y, x = stack.shape
        rows, columns = slice(0, y), slice(0, x)
        means = np.zeros((c, y, x), np.float64)
        for channel in range(c):
            for frame in range(t):
                for index in range(z):
                    means[channel] += stack.read(frame, channel, [index], rows, columns)[0] / (t * z)
    return means.astype(np.float32)


def _unfit(path: str | None, option: str, found: str, expected: str) -> UserInputError:
    return UserInputError(
        f"{option} {path!r} has {found}; expected {expected}. Take the picture again, or repair it, and give that."
    )
