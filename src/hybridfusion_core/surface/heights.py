"""A height map that is to be followed: ours, a corrected one or another program's, and whether it fits a stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.fusion.slice_positions import slice_positions
from hybridfusion_core.fusion.treated import placement_in
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import product_of, quantity_of
from hybridfusion_core.io.suffixes import OUTPUT_SUFFIXES, has_suffix, result_paths
from hybridfusion_core.io.verify import stored_provenance
from hybridfusion_core.registration.placement import Placement, check_fit
from hybridfusion_core.registration.resampled import Frame, aligned
from hybridfusion_core.stack import Channel, Stack

HeightUnit = Literal["um", "slices"]
_SAME_PIXEL = 0.01  # of their size
_BAND = 1024  # rows looked at together


@dataclass(frozen=True)
class Heights:
    """A height map, read by region.

    Attributes:
        array: T C 1 Y X or a part of these axes, float.
        unit: of its values.
        of: index of C that serves each channel of the stack.
        name: for messages and provenance.
        provenance: what it says of how it was made; {} if nothing.
        sheet: index along Z of the surface, where there are two.
        placement: where slices lay when it was found; None if they were taken as they are.
        frame: of the aligned slices.
    """

    array: Stack
    unit: HeightUnit
    of: Mapping[int, int]
    name: str
    provenance: Mapping[str, Any]
    sheet: int = 0
    placement: Placement | None = None
    frame: Frame = "keep"

    def placed(self, stack: Stack) -> Stack:
        """Return a stack with its slices where they lay when the heights were found, and cropped as those are."""
        if self.placement is None:
            return stack
        about = {"alignment": self.provenance["treatment"]["alignment"]}
        return replace(aligned(stack, self.placement, self.frame), treatment=about)

    def read(self, t: int, channel: int, y: slice, x: slice) -> NDArray[Any]:
        """Heights of a region for one channel of the stack, Y X, in the map's own unit."""
        return np.asarray(self.array.read(min(t, self.array.shape[0] - 1), self.of[channel], [self.sheet], y, x)[0])

    def positions(self, stack: Stack, values: NDArray[Any]) -> NDArray[np.float64]:
        """Turn heights into positions counted in slices; see `slice_positions`."""
        return slice_positions(values, stack.z_um if self.unit == "um" else None, stack.shape[2])

    def step(self, stack: Stack) -> float:
        """Usual distance between slices, in the map's unit."""
        if self.unit == "slices" or stack.shape[2] < 2 or stack.z_um is None:
            return 1.0
        return float(np.median(np.abs(np.diff(stack.z_um))))


@contextmanager
def open_heights(
    surface: Any,
    stack: Stack,
    *,
    unit: HeightUnit | None = None,
    chosen: str | None = None,
    other_stack: bool = False,
    sheet: int | None = None,
) -> Iterator[Heights]:
    """Open a height map and check it against the stack that it is to be followed through.

    Args:
        surface: a file, a `FuseResult`, or an array Y X, T Y X or T C 1 Y X.
        stack: that will be read along it.
        unit: of the values; None takes what a map of ours says, and µm for all others.
        chosen: name of the map, where the file has several.
        other_stack: the map was found in another file of the same field and slices.
        sheet: which surface, counted from 1, where there are two.

    Raises:
        UserInputError: it is no height map, or one of another size, unit or stack.
        StoredDataError: the file is damaged.
    """
    if isinstance(surface, str | Path):
        path = _maps_beside(Path(surface))
        with open_stack(str(path)) as maps:
            yield _checked(maps, stack, str(path), stored_provenance(path), unit, chosen, other_stack, sheet)
        return
    if isinstance(surface, FuseResult):
        maps = _maps_of(surface)
        yield _checked(maps, stack, "the result", surface.spec.provenance, unit, chosen, other_stack, sheet)
        return
    axes = {2: "YX", 3: "TYX", 5: "TCZYX"}.get(np.ndim(surface))
    if axes is None:
        raise UserInputError(f"The heights have shape {np.shape(surface)}; expected Y X, T Y X or T C 1 Y X.")
    yield _checked(Stack.from_array(surface, axes), stack, "the array", {}, unit, chosen, other_stack, sheet)


def _maps_beside(path: Path) -> Path:
    """Take the maps of a result for the result itself: people name what they see."""
    if ".maps." in path.name or not has_suffix(path, OUTPUT_SUFFIXES):
        return path
    beside = result_paths(path).get("maps", path)
    return beside if beside.exists() else path


def _maps_of(result: FuseResult) -> Stack:
    if "maps" not in result.arrays:
        raise UserInputError("The result has no height; expected one. Fuse again, with height among its products.")
    spec = result.spec
    names = tuple(Channel(each.name) for each in spec.maps)
    return Stack(result.arrays["maps"], "TCZYX", spec.name, names, y=spec.y, x=spec.x)


def _checked(
    maps: Stack,
    stack: Stack,
    name: str,
    provenance: Mapping[str, Any],
    unit: HeightUnit | None,
    chosen: str | None,
    other_stack: bool,
    sheet: int | None,
) -> Heights:
    if maps.dtype.kind != "f":
        raise UserInputError(
            f"{name} holds {maps.dtype} pixels; expected heights as floating-point numbers. A decision counts slices "
            "from 1 and is no height; store heights as float32, in µm, or in slices counted from 0."
        )
    placement, frame = _placement(provenance, stack, name)
    stack = stack if placement is None else aligned(stack, placement, frame)
    t, _, z, *plane = maps.shape
    if z > 1 and sheet is None:
        raise UserInputError(
            f"{name} has {z} surfaces; expected to be told which to follow. Choose one with --sheet, from 1 to {z}."
        )
    if sheet is not None and not 1 <= sheet <= z:
        raise UserInputError(f"{name} has {z} surface(s) and none with number {sheet}; expected one of them.")
    if t not in (1, stack.shape[0]) or tuple(plane) != stack.shape[3:]:
        raise UserInputError(
            f"{name} has T Y X = {(t, *plane)}, {stack.name} has {(stack.shape[0], *stack.shape[3:])}; expected "
            "one height for every pixel of the same plane and time points. It belongs to another image, or was "
            "binned: take the height of this stack."
        )
    for axis, ours, other in (("y", stack.y.step_um, maps.y.step_um), ("x", stack.x.step_um, maps.x.step_um)):
        if ours is not None and other is not None and abs(other / ours - 1) > _SAME_PIXEL:
            raise UserInputError(
                f"Pixels of {name} measure {other:.4g} µm along {axis}, those of {stack.name} {ours:.4g} µm; expected "
                "the same. It belongs to another image."
            )
    if not other_stack:
        _same_stack(name, provenance, stack)
    of, stated = _chosen(maps, stack, name, chosen)
    unit = _unit(name, stack, unit, stated)
    heights = Heights(maps, unit, of, name, provenance, (sheet or 1) - 1, placement, frame)
    _within(heights, stack)
    return heights


def _placement(provenance: Mapping[str, Any], stack: Stack, name: str) -> tuple[Placement | None, Frame]:
    """Where slices lay when a height was found, and in which frame; None if they are read as they are."""
    treatment = provenance.get("treatment")
    if not isinstance(treatment, Mapping) or placement_in(stack.treatment) is not None:  # aligned already
        return None, "keep"
    placement = placement_in(treatment)
    if placement is None or not placement.moves:
        return None, "keep"
    try:
        check_fit(placement, stack.shape, range(stack.shape[2]), stack.name)
    except UserInputError as error:
        raise UserInputError(
            f"{name} was found on slices that were aligned, and those of {stack.name} cannot be aligned so: {error} Or "
            "fuse again with --project, which reads the channels while the slices are aligned."
        ) from error
    return placement, "crop" if "frame" in treatment["alignment"] else "keep"


def _same_stack(name: str, provenance: Mapping[str, Any], stack: Stack) -> None:
    inputs, slices = provenance.get("input") or [], provenance.get("slices")
    made_of = {Path(str(each.get("name"))).name for each in inputs if isinstance(each, Mapping)}
    ours = {Path(each).name for each in stack.source}
    cure = "If it was found in another file of the same field and slices, say so with --other-stack."
    if made_of and ours and not made_of & ours:
        raise UserInputError(
            f"{name} is the height of {', '.join(sorted(made_of)[:3])}; expected that of "
            f"{', '.join(sorted(ours)[:3])}. {cure}"
        )
    if isinstance(slices, int) and slices != stack.shape[2]:
        raise UserInputError(
            f"{name} is the height of a stack of {slices} slices, {stack.name} has {stack.shape[2]}; expected the same."
        )


def _chosen(maps: Stack, stack: Stack, name: str, chosen: str | None) -> tuple[dict[int, int], HeightUnit | None]:
    """Say which map serves each channel, and the unit that its name states."""
    names = [channel.name for channel in maps.channels]
    if chosen is not None and chosen not in names:
        raise UserInputError(f"{name} has no map {chosen!r}; expected one of {', '.join(names)}.")
    found = [index for index, each in enumerate(names) if chosen in (each, None)]
    if len(names) > 1 and chosen is None:
        found = [index for index in found if product_of(names[index]) == "height"]
        found = [index for index in found if product_of(names[index]) == "height"]
    if not found:
        raise UserInputError(f"{name} has the maps {', '.join(names)}; expected a height. Name one with --map.")
    quantity = quantity_of(names[found[0]])
    stated: HeightUnit | None = next((each for each in ("um", "slices") if quantity.endswith(f"_{each}")), None)
    if len(found) == 1:
        return dict.fromkeys(range(stack.shape[1]), found[0]), stated
    own = {names[index].partition(" (")[2].removesuffix(")"): index for index in found}
    missing = [channel.name for channel in stack.channels if channel.name not in own]
    if missing:
        raise UserInputError(
            f"{name} has the heights {', '.join(names[index] for index in found)}, and none for channel "
            f"{missing[0]!r}; expected to be told which to follow. Choose one with --map, such as --map "
            f"{names[found[0]]!r}."
        )
    return {index: own[channel.name] for index, channel in enumerate(stack.channels)}, stated


def _unit(name: str, stack: Stack, wanted: HeightUnit | None, stated: HeightUnit | None) -> HeightUnit:
    if wanted is not None and stated is not None and wanted != stated:
        raise UserInputError(
            f"{name} says that its heights are in {_said(stated)}, and {_said(wanted)} was asked for; expected one of "
            "them. Leave --height-unit out."
        )
    unit: HeightUnit = stated or wanted or "um"
    if unit == "um" and stack.z_um is None:
        raise UserInputError(
            f"{name} holds heights in µm, and {stack.name} does not say how far its slices are apart; expected "
            "positions in µm. Give --z-step UM, or --height-unit slices if the heights count slices from 0."
        )
    return unit


def _within(heights: Heights, stack: Stack) -> None:
    """Refuse heights that mostly lie outside the stack: another unit, or another stack."""
    inside = known = 0
    low, high = np.inf, -np.inf
    for index in sorted(set(heights.of.values())):
        for top in range(0, stack.shape[3], _BAND):
            rows = slice(top, min(top + _BAND, stack.shape[3]))
            values = heights.array.read(0, index, [heights.sheet], rows, slice(0, stack.shape[4]))[0]
            finite = values[np.isfinite(values)]
            if finite.size:
                known += finite.size
                inside += int(np.isfinite(heights.positions(stack, finite)).sum())
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if 2 * inside < known:
        z = (0, stack.shape[2] - 1) if heights.unit == "slices" or stack.z_um is None else np.sort(stack.z_um)[[0, -1]]
        raise UserInputError(
            f"Most heights of {heights.name} lie outside {stack.name}: {low:.4g} to {high:.4g}, the slices from "
            f"{z[0]:.4g} to {z[1]:.4g} {_said(heights.unit)}. Check --height-unit and --z-step: it has another unit, "
            "or belongs to another stack."
        )


def _said(unit: HeightUnit) -> str:
    return "µm" if unit == "um" else "slices"
