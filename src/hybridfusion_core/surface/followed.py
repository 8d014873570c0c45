"""A stack as the heights know it: aligned as it was when they were found, if it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.fusion.treated import placement_in
from hybridfusion_core.io.verify import stored_provenance
from hybridfusion_core.registration.placement import check_fit
from hybridfusion_core.registration.resampled import aligned
from hybridfusion_core.stack import Stack
from hybridfusion_core.surface.heights import maps_beside


def as_followed(stack: Stack, surface: Any) -> Stack:
    """Put slices where they lay when a height was found, and crop them as its result was.

    Light is left as it was recorded: of a flat field only the name is known.

    Args:
        stack: that will be read along the height.
        surface: as for `open_heights`; heights of other programs say nothing of an alignment.

    Returns:
        The stack itself if nothing was aligned, or if it is aligned already.

    Raises:
        UserInputError: the height was found on slices of another number or size, or on some of them only.
    """
    stored = _provenance(surface).get("treatment")
    treatment = stored if isinstance(stored, Mapping) else {}
    placement = placement_in(treatment)
    if placement is None or placement_in(stack.treatment) is not None:
        return stack
    try:
        check_fit(placement, stack.shape, range(stack.shape[2]), stack.name)  # an offset may lead to any slice
    except UserInputError as error:
        raise UserInputError(
            f"The height was found on slices that were aligned, and those of {stack.name} cannot be so: {error} "
            "Or fuse again with --project, which reads channels while the slices are aligned."
        ) from error
    frame = treatment["alignment"].get("frame")
    about = {"alignment": treatment["alignment"]}
    return replace(aligned(stack, placement, "keep" if frame is None else "crop"), treatment=about)


def _provenance(surface: Any) -> Mapping[str, Any]:
    if isinstance(surface, FuseResult):
        return surface.spec.provenance
    return stored_provenance(maps_beside(Path(surface))) if isinstance(surface, str | Path) else {}
