"""Folders in which each file is a whole stack: OME-TIFFs, or whatever a pattern without {z} finds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tifffile
from natsort import natsorted

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES, has_suffix, image_name
from hybridfusion_core.io.tiff import ome_xml
from hybridfusion_core.io.units import number
from hybridfusion_core.plates.layouts.named_planes import Groups, place
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import number_name
from hybridfusion_core.plates.plate import Defect, Field, Frame, Image, Imaging, Plate, Well
from hybridfusion_core.plates.well_names import plate_size, row_letters, well_index
from hybridfusion_core.plates.xml_stream import whole
from hybridfusion_core.stack import Channel, Stack

_WELL = re.compile(r"(?:^|[^A-Za-z0-9])(?:[Ww]ell[ _-]?)?([A-Z]{1,2}\d{1,2})(?![A-Za-z0-9])")
_FIELD = re.compile(r"(?:^|[^A-Za-z0-9])(?:f|s|p|fov|field|site|pos|position)[ _-]?(\d{1,6})(?![A-Za-z0-9])", re.I)
_MOST_TIMES = 100_000
_CURE = "an intact OME-TIFF. It is damaged or something else under a TIFF name: copy or export it again."


@dataclass(frozen=True)
class _One:
    """One image: where it is, what it holds, and which field it is as far as it says so itself."""

    path: str
    series: int | None
    about: Description
    at: tuple[int, int] | None = None
    field: str | None = None
    position_um: tuple[float, float] | None = None
    problem: str = ""
    dtype: str | None = None


def read_ome_tiffs(listing: Listing) -> Plate | None:
    """Describe a folder of OME-TIFFs; every file costs the reading of its header.

    Returns:
        The plate, or None if no file is an OME-TIFF.
    """
    paths = natsorted(path for path in listing.images if has_suffix(Path(path), TIFF_SUFFIXES))
    found: list[_One] = []
    seen: set[frozenset[str]] = set()
    for path in paths:
        found += _from_header(listing.root, path, seen)
    if not any(not one.problem for one in found):
        return None
    return _plate(listing, _with_wells(found), "ome-tiff")


def read_images(listing: Listing, fits: Mapping[str, Groups]) -> Plate:
    """Describe a folder in which a pattern says which field each file is.

    Args:
        listing: of the folder.
        fits: groups of the pattern by path.
    """
    found = []
    for path in natsorted(fits):
        at = place(fits[path])
        if at is not None:
            one = _opened(listing, path)
            found.append(replace(one, at=at, field=number_name(fits[path].get("field") or "1")))
    return _plate(listing, found, "pattern")


def _from_header(root: Path, path: str, seen: set[frozenset[str]]) -> Iterator[_One]:
    """Yield the images of an OME-TIFF by its XML alone, once for all files of a multi-file image."""
    try:
        with guarded(f"{path}: its header cannot be read", _CURE), tifffile.TiffFile(root / path) as file:
            text, dtype = file.ome_metadata, str(file.pages.first.dtype)
        if text is None:
            return
        tree = ome_xml.parse(text, path)
    except HybridFusionError as error:
        if ".ome." in path.lower():
            yield _One(path, None, Description(), problem=str(error))
        return
    files = frozenset(ome_xml.file_names(tree))
    if ome_xml.metadata_file(tree) is not None or (len(files) > 1 and files in seen):
        return
    seen.add(files)
    described = ome_xml.describe(tree)
    places = _places(tree)
    for index, about in enumerate(described):
        known = places.get(index, {})
        yield _One(path, index if len(described) > 1 else None, about, dtype=dtype, **known)


def _opened(listing: Listing, path: str) -> _One:
    if path in listing.refused:
        reason = f"{path!r} {listing.refused[path]}; expected a file inside the folder of the plate. Copy it there."
        return _One(path, None, Description(), problem=reason)
    try:
        with open_stack(listing.root / path) as stack:
            return _One(path, None, _about(stack), dtype=stack.dtype.name)
    except HybridFusionError as error:
        return _One(path, None, Description(), problem=str(error))


def _about(stack: Stack) -> Description:
    sizes = tuple(zip("TCZYX", stack.shape, strict=True))
    return Description(stack.name, stack.t, stack.z, stack.y, stack.x, stack.channels, sizes=sizes)


def _places(tree: Any) -> dict[int, dict[str, Any]]:
    """Return well, field and position of images that OME-XML puts on a plate, by their index."""
    order = [each.get("ID") for each in tree.iter() if _local(each) == "Image"]
    found: dict[int, dict[str, Any]] = {}
    for well in (each for each in tree.iter() if _local(each) == "Well"):
        row, column = whole(well.get("Row"), 0, 99), whole(well.get("Column"), 0, 99)
        samples = [each for each in well if _local(each) == "WellSample"]
        for index, sample in enumerate(samples):
            reference = next((each.get("ID") for each in sample if _local(each) == "ImageRef"), None)
            if row is None or column is None or reference not in order:
                continue
            y, x = number(sample.get("PositionY")), number(sample.get("PositionX"))
            in_um = sample.get("PositionYUnit") == sample.get("PositionXUnit") == "µm"
            found[order.index(reference)] = {
                "at": (row, column),
                "field": str(index + 1),
                "position_um": (y, x) if in_um and y is not None and x is not None else None,
            }
    return found


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _with_wells(found: list[_One]) -> list[_One]:
    """Find the wells in the names of the files, unless the files say themselves."""
    if all(one.at is not None for one in found):
        return found
    named = [_by_name(one) for one in found]
    places = Counter((one.at, one.field) for one in named)
    if all(one.at is not None for one in named) and max(places.values()) == 1:
        return named
    several = Counter(one.path for one in found)
    return [
        replace(one, at=None, field=image_name(Path(one.path)) + (f":{one.series}" if several[one.path] > 1 else ""))
        for one in found
    ]


def _by_name(one: _One) -> _One:
    name = image_name(Path(one.path))
    well, field = _WELL.search(name), _FIELD.search(name)
    number_ = number_name(field[1]) if field else None if one.series is not None else "1"
    parts = [each for each in (number_, None if one.series is None else str(one.series + 1)) if each is not None]
    return replace(one, at=well_index(well[1]) if well else None, field="-".join(parts))


def _plate(listing: Listing, found: Iterable[_One], layout: str) -> Plate:
    wells: dict[tuple[int, int], list[Field]] = defaultdict(list)
    ones = list(found)
    counts = Counter((one.at, one.field) for one in ones)
    for one in ones:
        wells[one.at or (0, 0)].append(Field(str(one.field), _frames(one, counts[one.at, one.field]), one.position_um))
    unknown = [one for one in ones if one.at is None]
    warnings = ("No file says which well it shows; all are fields of one well, A01.",) if unknown else ()
    rows, columns = plate_size(
        max((row + 1 for row, _ in wells), default=0), max((column + 1 for _, column in wells), default=0)
    )
    return Plate(
        folder=str(listing.root),
        layout=layout,
        name=listing.root.name,
        wells=tuple(
            Well(
                row_letters(row), f"{column + 1:02d}", row, column, tuple(natsorted(fields, key=lambda each: each.name))
            )
            for (row, column), fields in sorted(wells.items())
        ),
        imaging=_imaging(ones),
        rows=rows,
        columns=columns,
        warnings=warnings,
    )


def _frames(one: _One, count: int) -> tuple[Frame, ...]:
    sizes = dict(one.about.sizes)
    times, slices = sizes.get("T", 1), (sizes.get("Z", 1),) * sizes.get("C", 1)
    problem = one.problem
    if not problem and (min(sizes.values(), default=0) < 1 or times > _MOST_TIMES):
        problem = (
            f"{one.path!r} states the sizes {sizes}; expected at least one pixel and at most {_MOST_TIMES} times. "
        )
        problem += "The metadata are damaged: export it again."
    if problem:
        return (Frame("0", (), image=Image(one.path, one.series), defects=(Defect("missing", problem),)),)
    clash = () if count == 1 else (Defect("duplicate", _clash(one, count)),)
    return tuple(Frame(str(t), slices, image=Image(one.path, one.series, t), defects=clash) for t in range(times))


def _clash(one: _One, count: int) -> str:
    return (
        f"{one.path!r} is one of {count} files for field {one.field} of one well; expected one file for every field. "
        "Move the wrong ones away, or tell them apart with --pattern."
    )


def _imaging(found: Iterable[_One]) -> Imaging:
    for one in found:
        sizes, about = dict(one.about.sizes), one.about
        if one.problem or not sizes:
            continue
        count = max(1, min(sizes.get("C", 1), 10_000))
        channels = about.channels if len(about.channels) == count else tuple(Channel(str(c)) for c in range(count))
        plane = (sizes["Y"], sizes["X"])
        return Imaging(channels, plane, one.dtype, t=about.t, z=about.z, y=about.y, x=about.x)
    return Imaging(())
