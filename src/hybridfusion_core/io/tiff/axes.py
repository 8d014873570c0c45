"""Decide which axis of a TIFF is which: by its metadata, or by what the user says."""

from __future__ import annotations

from typing import Any

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.tiff.full_series import full_axes, full_shape
from hybridfusion_core.stack import check_axes


def stored_letters(series: Any, axes: str | None, name: str, *, rgb: bool) -> str:
    """Return one letter of TCZYX, or "-" for "not shown", per stored axis.

    Args:
        series: tifffile.TiffPageSeries.
        axes: what the user says the axes are.
        name: what to call the file in messages.
        rgb: the samples of a pixel are colours.

    Raises:
        UserInputError: the file does not say what an axis is, or the user's axes do not fit.
    """
    found = full_axes(series)
    shape = full_shape(series)
    if axes is not None:
        return _as_told(axes.upper(), found, shape, name)
    letters = []
    for letter, length in zip(found, shape, strict=True):
        if letter in "TCZYX":
            letters.append(letter)
        elif length == 1:
            letters.append("-")
        elif letter == "S" and (rgb or series.kind in ("ome", "imagej") or length == 2):
            letters.append("C")
        else:
            raise _ambiguous(name, shape)
    return _with_one_channel_axis(letters, shape, name)


def _with_one_channel_axis(letters: list[str], shape: tuple[int, ...], name: str) -> str:
    """Drop the shorter of two channel axes: OME-XML has C, and samples of a pixel besides."""
    both = [index for index, letter in enumerate(letters) if letter == "C"]
    if len(both) > 1:
        idle = [index for index in both if shape[index] == 1]
        if not idle:
            raise UserInputError(
                f"{name} has {shape[both[0]]} channels with {shape[both[1]]} samples per pixel each; expected "
                "channels or colours, not both. Export each colour image on its own."
            )
        letters[idle[0]] = "-"
    return "".join(letters)


def _as_told(axes: str, found: str, shape: tuple[int, ...], name: str) -> str:
    """Give the user's letters to the stored axes, in order; axes of length 1 need no letter."""
    long = [index for index, length in enumerate(shape) if length > 1 or found[index] in "YX"]
    # One sample per pixel is no axis to anybody but the file.
    everything = [index for index, length in enumerate(shape) if length > 1 or found[index] != "S"]
    without_samples = [[index for index in chosen if found[index] != "S"] for chosen in (long, everything)]
    for chosen in (*without_samples, long, everything):
        if len(chosen) == len(axes):
            break
    else:
        told = tuple(shape[index] for index in long)
        raise UserInputError(
            f"{name} has {len(long)} axes of more than one element, shape {told}; axes {axes!r} name {len(axes)}. "
            "Expected one letter of TCZYX for each. Say for example --axes ZYX (Python: axes=)."
        )
    check_axes(axes, len(chosen))
    letters = ["-"] * len(shape)
    for index, letter in zip(chosen, axes, strict=True):
        letters[index] = letter
    left = [index for index, length in enumerate(shape) if letters[index] == "-" and length > 1]
    if left:
        # What is left are the samples of a pixel.
        if "C" in axes:
            raise _ambiguous(name, shape)
        letters[left[0]] = "C"
    return "".join(letters)


def _ambiguous(name: str, shape: tuple[int, ...]) -> UserInputError:
    told = tuple(length for length in shape if length > 1)
    return UserInputError(
        f"{name} has shape {told} and does not say what its axes are: the pages may be slices (Z), time points (T) "
        "or channels (C). Expected a file with metadata, or the axes. Say what they are, for example --axes ZYX "
        "(Python: axes=)."
    )
