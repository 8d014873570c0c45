"""Open a plate: find out which layout a folder has, and have it read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.io.disk.access import existing
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES, has_suffix
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.io.zarr.image import is_zarr
from hybridfusion_core.io.zarr.source import is_url, reached
from hybridfusion_core.plates.assemble import assemble
from hybridfusion_core.plates.headers import with_headers
from hybridfusion_core.plates.indexes import index_of, unread_indexes
from hybridfusion_core.plates.layouts.harmony import read_harmony
from hybridfusion_core.plates.layouts.hcs_ai import read_hcs_ai
from hybridfusion_core.plates.layouts.imagexpress import read_imagexpress
from hybridfusion_core.plates.layouts.incell import read_incell
from hybridfusion_core.plates.layouts.name_parts import varying_wells
from hybridfusion_core.plates.layouts.named_planes import Groups, WellNames, matches, record
from hybridfusion_core.plates.layouts.ome_tiffs import read_ome_tiffs
from hybridfusion_core.plates.layouts.ome_zarr import read_ome_zarr_collection, read_ome_zarr_plate
from hybridfusion_core.plates.layouts.pattern import check_groups, parse_pattern
from hybridfusion_core.plates.layouts.patterned_stacks import read_patterned_stacks
from hybridfusion_core.plates.layouts.proposed_pattern import proposed_pattern
from hybridfusion_core.plates.layouts.scanr import read_scanr
from hybridfusion_core.plates.layouts.stacks import read_stack_file, read_stacks
from hybridfusion_core.plates.layouts.table import LAYOUTS, Layout, layout
from hybridfusion_core.plates.layouts.yokogawa import read_yokogawa
from hybridfusion_core.plates.listing import Listing, list_folder
from hybridfusion_core.plates.plane_records import Findings
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.several_plates import refuse_several_plates
from hybridfusion_core.plates.unknown_folder import nothing_found
from hybridfusion_core.plates.well_names import row_letters
from hybridfusion_core.stack import Channel

_READERS: dict[str, Callable[[Listing, Path | None], Findings]] = {
    "harmony": read_harmony,
    "imagexpress": read_imagexpress,
    "hcs-ai": read_hcs_ai,
    "yokogawa": read_yokogawa,
    "cq3k": read_yokogawa,
    "scanr": read_scanr,
    "incell": read_incell,
}
_MOST_NAMES = 2000  # that are compared
_VENDORS = tuple(each for each in LAYOUTS if each.name in _READERS)
_EXPECTED = (
    "a plate: an OME-Zarr plate, the folder of a microscope's export, a folder of stacks, or a microscope's own file"
)


def open_plate(
    path: str | Path, *, pattern: str | None = None, axes: str | None = None, absent: Absent = "refuse"
) -> Plate:
    """Find out what a plate holds. Names, metadata and a few headers are read, no pixels.

    Args:
        path: OME-Zarr plate, folder, or the index file in it (such as Index.idx.xml or an .HTD file); or the URL of an
            OME-Zarr plate, `s3://` or `https://`; or a microscope's own file, whose positions are fields.
        pattern: what the files are called, for names that no layout knows; see `parse_pattern`.
        axes: what the axes of stacks are that do not say it, such as "ZYX".
        absent: what to do about slices of which an OME-Zarr in a folder of stacks has no chunk: "refuse", or "fill".

    Returns:
        The plate. What is wrong with single fields is written in their frames; the plate itself is fit to be fused.

    Raises:
        UserInputError: nothing is there, no layout fits, no field was found, or the pattern makes no sense.
        StoredDataError: the metadata of the plate are damaged.
    """
    if isinstance(path, str) and is_url(path):
        return _behind(path.rstrip("/"), pattern)
    found = existing(Path(path), _EXPECTED)
    named = Path(found.absolute())
    index = named if named.is_file() else None
    folder = named if index is None else named.parent
    if index is not None and has_suffix(index, NATIVE_SUFFIXES):
        plate = read_stack_file(index)
    elif pattern is None and is_zarr(folder):
        plate = _ome_zarr(folder)
    else:
        plate = _from_files(list_folder(folder), index, pattern, axes, absent)
    if not any(True for _ in plate.fields()):
        raise nothing_found(list_folder(folder))
    return replace(with_headers(plate), warnings=tuple(printable(each) for each in plate.warnings))


def open_exported_plate(folder: Path) -> Plate | None:
    """Open a folder if it is an OME-Zarr plate or what a microscope exports; other folders of stacks are none.

    Raises:
        UserInputError: its names leave open what the wells are.
        StoredDataError: its metadata are damaged.
    """
    if not folder.is_dir():
        return None
    named = folder.absolute()
    plate = read_ome_zarr_plate(named) if is_zarr(named) else _of_vendor(list_folder(named), None)
    return None if plate is None or next(plate.fields(), None) is None else with_headers(plate)


def _behind(url: str, pattern: str | None) -> Plate:
    with reached(url):
        plate = None if pattern is not None else read_ome_zarr_plate(url)
    if plate is None or not any(True for _ in plate.fields()):
        raise UserInputError(
            f"{url} is no OME-Zarr plate with fields; expected one, because a server does not tell which files there "
            "are in a folder. Check the address and the credentials, or copy the folder to this computer."
        )
    return replace(plate, warnings=tuple(printable(each) for each in plate.warnings))


def _ome_zarr(folder: Path) -> Plate:
    plate = read_ome_zarr_plate(folder) or read_ome_zarr_collection(folder)
    if plate is not None:
        return plate
    raise UserInputError(
        f"{folder.name} is zarr without the metadata of a plate; expected {_EXPECTED}. Use `hybridfusion fuse` for one "
        "image, or name the folder of the plate."
    )


def _from_files(listing: Listing, index: Path | None, pattern: str | None, axes: str | None, absent: Absent) -> Plate:
    if pattern is not None:
        return _by_pattern(listing, pattern, axes)
    native = any(has_suffix(Path(path), NATIVE_SUFFIXES) for path in listing.images)
    plate = _of_vendor(listing, index) or (None if native else read_ome_tiffs(listing))
    plate = plate or read_stacks(listing, axes, absent)
    if plate is None:
        raise nothing_found(listing)
    unread = unread_indexes(listing, plate.metadata)
    return replace(plate, warnings=(*plate.warnings, *unread))


def _of_vendor(listing: Listing, index: Path | None) -> Plate | None:
    """Read a plate by its index, or by the names of its planes; None if it fits no vendor's layout."""
    fits = {each.name: _count(listing, each) for each in _VENDORS}
    # Layouts may share an index: the one whose names fit more files comes first.
    for kind in sorted(_VENDORS, key=lambda each: -fits[each.name]):
        found = index_of(listing, kind, index, fits=bool(fits[kind.name]))
        if found is not None:
            return assemble(_READERS[kind.name](listing, found), listing, kind)
    if index is not None:
        raise UserInputError(
            f"{index.name} is no index that is known; expected {_EXPECTED}, or the index of one: "
            f"{', '.join(sorted({name for each in _VENDORS for name in each.metadata}))}. Name the folder."
        )
    best = max(fits, key=lambda name: fits[name])
    if not fits[best]:
        return None
    findings = _READERS[best](listing, None)
    refuse_several_plates((*findings.records, *findings.projections), listing.root.name)
    _refuse_doubtful_wells(findings)
    return assemble(findings, listing, layout(best))


def _refuse_doubtful_wells(findings: Findings) -> None:
    """Refuse names that have one well where wells should be, while another part that looks like a well varies."""
    if len({record[:2] for record in findings.records}) != 1:
        return
    files = sorted({record.file for record in findings.records if record.file})[:_MOST_NAMES]
    others = varying_wells([Path(file).stem for file in files])
    if others:
        well = row_letters(findings.records[0].row) + str(findings.records[0].column + 1)
        raise UserInputError(
            f"All names say well {well}, and another part of them that could be the well varies, such as {others[0]!r} "
            f"in {files[0]!r}; expected a well that tells the files apart. Say what the names mean with --pattern."
        )


def _by_pattern(listing: Listing, text: str, axes: str | None) -> Plate:
    pattern = parse_pattern(text)
    fits = pattern.match(sorted((*listing.images, *listing.refused)))
    check_groups(pattern, fits)
    if not fits:
        proposed = proposed_pattern(listing)
        like = f" The names would fit {proposed!r}." if proposed else ""
        first = next(iter(sorted(listing.images)), None)
        example = (
            "Name another folder." if first is None else f"The first file is {first!r}: write the pattern like it."
        )
        raise UserInputError(
            f"The pattern {text!r} fits none of {len(listing.images)} image files in {listing.root.name}; expected one "
            f"that fits their whole names. {example}{like}"
        )
    name = _plate_name(text, fits) or listing.root.name
    others = sorted(listing.images - set(fits))
    shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    left = (f"{len(others)} image files do not fit the pattern, left out: {shown}.",) if others else ()
    if "z" in pattern.groups:
        plate = _patterned(listing, fits, name)
    else:
        plate = read_patterned_stacks(listing, fits, name, axes)
    return replace(plate, warnings=(*left, *plate.warnings))


def _patterned(listing: Listing, fits: Mapping[str, Groups], name: str) -> Plate:
    wells = WellNames(fits.values())
    records = [made for path, groups in fits.items() if (made := record(path, groups, wells)) is not None]
    channels = {each.channel: Channel(each.channel) for each in records}
    size = (1, len(wells.written)) if wells.written else (0, 0)
    findings = Findings(
        records, channels, name, rows=size[0], columns=size[1], wells=wells.written, warnings=wells.warnings
    )
    return assemble(findings, listing, layout("pattern"))


def _plate_name(text: str, fits: Mapping[str, Groups]) -> str | None:
    plates = sorted({str(groups["plate"]) for groups in fits.values() if groups.get("plate") is not None})
    if len(plates) > 1:
        raise UserInputError(
            f"The pattern {text!r} finds {len(plates)} plates, such as {plates[:3]}; expected one. Write the name of "
            "one of them in place of {plate}."
        )
    return plates[0] if plates else None


def _count(listing: Listing, kind: Layout) -> int:
    """Return how many names say at least two things in the way of a layout; "A01.tif" alone says too little."""
    if kind.files is None:
        return 0
    paths: Sequence[str] = (*listing.images, *listing.refused)
    return sum(sum(value is not None for value in groups.values()) > 1 for _, groups in matches(kind.files, paths))
