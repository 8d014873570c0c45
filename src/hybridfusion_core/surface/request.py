"""What can be asked of a projection along a surface. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.slab import How, Slab

Fill = Literal["0", "nan"]


@dataclass(frozen=True)
class ProjectRequest:
    """Every choice about a projection along a surface.

    Attributes:
        slab: where channels are read.
        by_channel: where some of them are read instead, by name or index.
        channels: names or indices to project; None takes all.
        fill: what stands where there is no height or no slice: 0, or NaN, which makes the image float32.
        map: name of the height among several maps; None takes the only one, or each channel's own.
        sheet: which surface, counted from 1, where there are two.
        height_unit: "um" or "slices"; None takes what a map of ours says, and µm for all others.
        other_stack: the height was found in another file of the same field and slices.
    """

    slab: Slab = field(default_factory=Slab)
    by_channel: Mapping[str, Slab] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    fill: Fill = "0"
    map: str | None = None
    sheet: int | None = None
    height_unit: Literal["um", "slices"] | None = None
    other_stack: bool = False


def make_project_request(
    *,
    offset_um: float = 0.0,
    thickness_um: float = 0.0,
    how: How = "max",
    by_channel: Mapping[str, Slab | tuple[float, float, How]] | None = None,
    **options: Any,
) -> ProjectRequest:
    """Build a request from keyword options.

    Args:
        offset_um: from the surface to the middle of the slab, in µm (in slices if heights count slices).
        thickness_um: of the slab; 0 is the surface itself.
        how: what becomes of the values through the slab: "max", "mean", "sum", "median", or "stack" for all of them.
        by_channel: other (offset, thickness, how) of some channels.
        **options: further fields of `ProjectRequest`.

    Raises:
        UserInputError: an option is impossible or unknown.
    """
    unknown = set(options) - set(ProjectRequest.__dataclass_fields__)
    if unknown:
        raise UserInputError(
            f"Unknown option {min(unknown)!r}; expected some of {', '.join(ProjectRequest.__dataclass_fields__)}."
        )
    if options.get("fill", "0") not in ("0", "nan"):
        raise UserInputError(f"The fill is {options['fill']!r}; expected '0' or 'nan'.")
    if options.get("height_unit") not in (None, "um", "slices"):
        raise UserInputError(f"The unit of the height is {options['height_unit']!r}; expected 'um' or 'slices'.")
    others = {
        name: each if isinstance(each, Slab) else Slab(each[0], each[1], each[2])
        for name, each in (by_channel or {}).items()
    }
    return ProjectRequest(slab=Slab(offset_um, thickness_um, how), by_channel=others, **options)
