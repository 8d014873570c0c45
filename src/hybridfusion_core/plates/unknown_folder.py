"""What to say of a folder in which no layout finds a field: what lies in it, and a pattern that its names would fit."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES
from hybridfusion_core.plates.layouts.proposed_pattern import proposed_pattern
from hybridfusion_core.plates.layouts.table import LAYOUTS
from hybridfusion_core.plates.listing import Listing

_SHOWN = 6


def nothing_found(listing: Listing) -> UserInputError:
    """Say that a folder holds no plate that is known, and what it holds instead.

    Args:
        listing: of the folder.
    """
    every = (*listing.images, *listing.refused, *listing.others)
    name = listing.root.name
    if not every:
        return UserInputError(f"{name} is empty; expected a plate or images. Name another folder.")
    counts = Counter(_suffix(path) for path in every).most_common()
    held = ", ".join(f"{count} {suffix}" for suffix, count in counts[:_SHOWN]) + (", …" if len(counts) > _SHOWN else "")
    titles = "; ".join(each.title for each in LAYOUTS if each.name != "pattern")
    found = f"No field was found in {name}, which holds {held}; expected one of these layouts: {titles}."
    if not listing.images:
        return UserInputError(
            f"{found} None of the files is an image that can be read: export the plate as TIFF, OME-TIFF or OME-Zarr, "
            "or convert it with bioformats2raw."
        )
    first = min(listing.images)
    proposed = proposed_pattern(listing)
    cure = (
        f"Say what the names mean, as in --pattern {proposed!r}."
        if proposed
        else "Say what the names mean with --pattern: {well}, or {row} and {column}, {field}, {z}, {channel}, {time}."
    )
    return UserInputError(
        f"{found} The first image is {first!r}. {cure} If there are no wells, put every stack into a file or a "
        "folder of its own and name the folder of them all; or fuse a single stack with `hybridfusion fuse`."
    )


def _suffix(path: str) -> str:
    name = PurePosixPath(path).name.lower()
    longest = next((suffix for suffix in TIFF_SUFFIXES if name.endswith(suffix)), None)
    return longest or PurePosixPath(name).suffix or "files without a suffix"
