"""Folders of OME-TIFFs: the plate in their OME-XML, or wells in the names of images and files.

Micro-Manager describes all positions in the file of each, and gives each image the name of its position. So an image
has several names: its stage label, its own, those of the file that holds its pixels and of the file that was opened.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import tifffile
from natsort import natsorted

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES, has_suffix, image_name
from hybridfusion_core.io.tiff import ome_xml
from hybridfusion_core.io.tiff.ome_header import ome_text, without_rest
from hybridfusion_core.io.units import number
from hybridfusion_core.plates.layouts.name_parts import NamedPlaces, places_of
from hybridfusion_core.plates.layouts.proposed_pattern import proposed_pattern
from hybridfusion_core.plates.layouts.whole_images import FieldImage, plate_of
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.xml_stream import whole

_SLICE = re.compile(r"(?<![A-Za-z])[zZ][_-]?(\d{1,6})(?!\d)")
_SHOWN = 3
_CURE = "an intact OME-TIFF. It is damaged or something else under a TIFF name: copy or export it again."
_CHOICE = (
    "Say what the names mean with --pattern: write the name of a file, such as '{example}', with {{well}}, or "
    "{{row}} and {{column}}, in place of the well, {{field}} in place of the field, and * for what does not matter."
)


def read_ome_tiffs(listing: Listing) -> Plate | None:
    """Describe a folder of OME-TIFFs; every file costs the reading of its header.

    Returns:
        The plate, or None if no file is an OME-TIFF.

    Raises:
        UserInputError: names leave open which part of them is the well.
    """
    paths = natsorted(path for path in listing.images if has_suffix(Path(path), TIFF_SUFFIXES))
    found: list[FieldImage] = []
    seen: set[frozenset[str]] = set()
    without: list[str] = []
    for path in paths:
        found += _from_header(listing.root, path, seen, without)
    if not any(not one.problem for one in found):
        return None
    _refuse_single_slices(listing, found)
    placed, warnings = _with_places(found)
    return plate_of(listing, placed, "ome-tiff", (*warnings, *_left_out(without, seen)))


def _left_out(without: Sequence[str], seen: Iterable[frozenset[str]]) -> Iterator[str]:
    """Name the files without OME-XML that no other file's OME-XML names."""
    named = {normalize("NFC", name) for names in seen for name in names}
    alone = [path for path in without if normalize("NFC", PurePosixPath(path).name) not in named]
    if alone:
        shown = ", ".join(alone[:_SHOWN]) + (", …" if len(alone) > _SHOWN else "")
        yield (
            f"{len(alone)} TIFF files have no OME-XML and are left out, since others have: {shown}. If they are "
            "fields, say what their names mean with --pattern."
        )


def _refuse_single_slices(listing: Listing, found: Sequence[FieldImage]) -> None:
    """Refuse files of one slice each whose names count slices: which of them belong together is a question."""
    if len(found) < 2 or any(one.series is not None or _sizes(one) != (1, 1, 1) for one in found):
        return
    slices = [_SLICE.search(PurePosixPath(one.path).name) for one in found]
    if all(slices) and len({each[1] for each in slices if each}) > 1:
        proposed = proposed_pattern(listing)
        raise UserInputError(
            f"{len(found)} OME-TIFFs hold one slice each, and their names count slices, such as {found[0].path!r}; "
            "expected a whole stack in each file, or a pattern that says which slices belong together. "
            + (
                f"Try --pattern {proposed!r}."
                if proposed
                else _CHOICE.format(example=PurePosixPath(found[0].path).name)
            )
        )


def _sizes(one: FieldImage) -> tuple[int, ...]:
    sizes = dict(one.about.sizes)
    return tuple(sizes.get(letter, 0) for letter in "TCZ")


def _from_header(root: Path, path: str, seen: set[frozenset[str]], without: list[str]) -> Iterator[FieldImage]:
    """Yield the images of an OME-TIFF by its XML alone, once for all files of a multi-file image.

    Args:
        root: of the listing.
        path: of the file in it.
        seen: names of the files of every image so far; it grows.
        without: files that have no XML; it grows.
    """
    try:
        with guarded(f"{path}: its header cannot be read", _CURE), tifffile.TiffFile(root / path) as file:
            text, dtype = ome_text(file), str(file.pages.first.dtype)
        if text is None:
            without.append(path)
            return
        ome_xml.refuse_declarations(text, path)
        tree = ome_xml.parse(without_rest(text)[0], path)
    except HybridFusionError as error:
        if ".ome." in path.lower():
            yield FieldImage(path, None, Description(), problem=str(error))
        return
    files = frozenset(ome_xml.file_names(tree))
    if ome_xml.metadata_file(tree) is not None or (len(files) > 1 and files in seen):
        return
    seen.add(files)
    described = ome_xml.describe(tree)
    places, labels = _places(tree), list(_labels(tree))
    for index, about in enumerate(described):
        known = places.get(index, {})
        names = labels[index] if index < len(labels) else ()
        yield FieldImage(path, index if len(described) > 1 else None, about, dtype=dtype, labels=names, **known)


def _labels(tree: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the stage label, the name, and the file of the pixels of every image; "" where there is none."""
    for image in (each for each in tree.iter() if _local(each) == "Image"):
        inside = {_local(each): each for each in reversed(list(image.iter()))}  # the first of each kind counts
        if "Pixels" in inside:
            stage, uuid = inside.get("StageLabel"), inside.get("UUID")
            file = "" if uuid is None else uuid.get("FileName") or ""
            yield "" if stage is None else stage.get("Name") or "", image.get("Name") or "", _bare(file)


def _bare(file: str) -> str:
    """Return a path without its suffix; folders stay, for they may name the well."""
    return str(PurePosixPath(file).with_name(image_name(Path(file)))) if file else ""


def _places(tree: Any) -> dict[int, dict[str, Any]]:
    """Return well, field and position of images that OME-XML puts on a plate, by their index."""
    order = [each.get("ID") for each in tree.iter() if _local(each) == "Image"]
    found: dict[int, dict[str, Any]] = {}
    plates = [each for each in tree.iter() if _local(each) == "Plate"]
    for plate, well in ((parent, each) for parent in plates for each in parent if _local(each) == "Well"):
        size = whole(plate.get("Rows"), 1, 100) or 0, whole(plate.get("Columns"), 1, 100) or 0
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
                "plate": size,
                "position_um": (y, x) if in_um and y is not None and x is not None else None,
            }
    return found


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _with_places(found: Sequence[FieldImage]) -> tuple[list[FieldImage], tuple[str, ...]]:
    """Give every image a well and a field: as the XML says, as names tell, or all of them fields of one well."""
    sound = [one for one in found if one.labels or not one.problem]
    if all(one.at is not None for one in sound) and sound:
        named = _named(found)
    elif (told := _told(found)) is None:
        named = _named([replace(one, at=None, field=None) for one in found])
        return named, ("No file says which well it shows; all are fields of one well, A01.",)
    else:
        named = [replace(one, at=at, field=field) for one, (at, field) in zip(found, told.places, strict=True)]
        return named, told.warnings
    return named, ()


def _told(found: Sequence[FieldImage]) -> NamedPlaces | None:
    """Ask the names of the images, the surest kind first; a kind that leaves a choice only if no other is clear."""
    question: UserInputError | None = None
    for names in _kinds_of_names(found):
        if len(set(names)) < len(names) or not all(names):
            continue  # names that do not tell the images apart tell no wells
        try:
            told = places_of(names, _CHOICE.format(example=PurePosixPath(found[0].path).name))
        except UserInputError as error:
            question = question or error
        else:
            if told is not None:
                return told
    if question is not None:
        raise question
    return None


def _kinds_of_names(found: Sequence[FieldImage]) -> Iterator[list[str]]:
    paths = [_bare(one.path) for one in found]
    # A damaged file has its path alone.
    stage, own, file = zip(*(one.labels or (path,) * 3 for one, path in zip(found, paths, strict=True)), strict=True)
    yield list(stage)
    if all(one.series is None for one in found):
        yield from (paths, list(own))
        return
    yield from (list(own), list(file))
    yield [f"{path}/{name}" for path, name in zip(paths, own, strict=True)]
    yield [f"{path}/{(one.series or 0) + 1}" for path, one in zip(paths, found, strict=True)]


def _named(found: Sequence[FieldImage]) -> list[FieldImage]:
    """Call the fields that have no name after their image, or else their file."""
    several = Counter(one.path for one in found)
    own = Counter(one.labels[1] for one in found if one.labels)
    files = Counter(image_name(Path(path)) for path in several)
    named = []
    for one in found:
        name = image_name(Path(one.path))
        if files[name] > 1:  # files of one name, in several folders
            name = str(PurePosixPath(one.path).with_name(name))
        if several[one.path] > 1:
            image = one.labels[1] if one.labels else ""
            name = image if image and own[image] == 1 else f"{name}:{one.series}"
        named.append(one if one.field is not None else replace(one, field=name))
    return named
