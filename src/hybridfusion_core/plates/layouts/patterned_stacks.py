"""Folders in which a pattern without {z} says which field, time and channel each file, a whole stack, holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from natsort import natsorted

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.layouts.named_planes import Groups, WellNames
from hybridfusion_core.plates.layouts.whole_images import FieldImage, plate_of
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import number_name
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.stack import Stack


def read_patterned_stacks(listing: Listing, fits: Mapping[str, Groups], name: str, axes: str | None) -> Plate:
    """Describe a folder in which a pattern says which field each file is; every file is opened.

    Args:
        listing: of the folder.
        fits: groups of the pattern by path.
        name: of the plate.
        axes: what the axes of files are that do not say it.
    """
    wells = WellNames(fits.values())
    found = []
    for path in natsorted(fits):
        groups = fits[path]
        at = wells.place(groups)
        if at is not None:
            one = _opened(listing, path, axes)
            time = groups.get("time")
            found.append(
                replace(
                    one,
                    at=at,
                    field=number_name(groups.get("field") or "1"),
                    time=None if time is None else int(time),
                    channel=None if groups.get("channel") is None else number_name(str(groups["channel"])),
                )
            )
    return replace(plate_of(listing, found, "pattern", wells.warnings, wells.written), name=name)


def _opened(listing: Listing, path: str, axes: str | None) -> FieldImage:
    if path in listing.refused:
        reason = f"{path!r} {listing.refused[path]}; expected a file inside the folder of the plate. Copy it there."
        return FieldImage(path, None, Description(), problem=reason)
    try:
        with open_stack(listing.root / path, axes=axes) as stack:
            return FieldImage(path, None, _about(stack), dtype=stack.dtype.name, axes=axes)
    except HybridFusionError as error:
        return FieldImage(path, None, Description(), problem=str(error))


def _about(stack: Stack) -> Description:
    sizes = tuple(zip("TCZYX", stack.shape, strict=True))
    return Description(stack.name, stack.t, stack.z, stack.y, stack.x, stack.channels, sizes=sizes)
