"""Open a plate: find out which layout a folder has, and have it read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hybridfusion_core.errors import StoredDataError, UserInputError, printable
from hybridfusion_core.io.disk.access import existing
from hybridfusion_core.io.zarr.image import is_zarr
from hybridfusion_core.io.zarr.source import is_url, reached
from hybridfusion_core.plates.assemble import assemble
from hybridfusion_core.plates.headers import with_headers
from hybridfusion_core.plates.layouts.harmony import read_harmony
from hybridfusion_core.plates.layouts.imagexpress import read_imagexpress
from hybridfusion_core.plates.layouts.named_planes import matches, record
from hybridfusion_core.plates.layouts.ome_zarr import read_ome_zarr_plate
from hybridfusion_core.plates.layouts.pattern import check_groups, parse_pattern
from hybridfusion_core.plates.layouts.table import LAYOUTS, Layout, layout
from hybridfusion_core.plates.layouts.whole_images import read_images, read_ome_tiffs
from hybridfusion_core.plates.layouts.yokogawa import read_yokogawa
from hybridfusion_core.plates.listing import Listing, list_folder
from hybridfusion_core.plates.plane_records import Findings
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.stack import Channel

_READERS: dict[str, Callable[[Listing, Path | None], Findings]] = {
    "harmony": read_harmony,
    "imagexpress": read_imagexpress,
    "yokogawa": read_yokogawa,
}
_EXPECTED = "a plate: an OME-Zarr plate, the folder of a microscope's export, or a folder of OME-TIFFs"


def open_plate(path: str | Path, *, pattern: str | None = None) -> Plate:
    """Find out what a plate holds. Names, metadata and a few headers are read, no pixels.

    Args:
        path: OME-Zarr plate, folder, or the index file in it (Index.idx.xml, .HTD, MeasurementData.mlf); or the URL of
            an OME-Zarr plate, `s3://` or `https://`.
        pattern: what the files are called, for names that no layout knows; see `parse_pattern`.

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
    if pattern is None and is_zarr(folder):
        plate = _ome_zarr(folder)
    else:
        plate = _from_files(list_folder(folder), index, pattern)
    if not any(True for _ in plate.fields()):
        raise _nothing(folder, "in the files that fit the layout")
    return replace(with_headers(plate), warnings=tuple(printable(each) for each in plate.warnings))


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
    plate = read_ome_zarr_plate(folder)
    if plate is not None:
        return plate
    raise UserInputError(
        f"{folder.name} is zarr without the metadata of a plate; expected {_EXPECTED}. Use `hybridfusion fuse` for one "
        "image, or name the folder of the plate."
    )


def _from_files(listing: Listing, index: Path | None, pattern: str | None) -> Plate:
    if pattern is not None:
        return _by_pattern(listing, pattern)
    for each in LAYOUTS:
        if each.name in _READERS and (path := _index(listing, each, index)) is not None:
            return assemble(_READERS[each.name](listing, path), listing, each)
    if index is not None:
        raise UserInputError(
            f"{index.name} is no index that is known; expected {_EXPECTED}, or its Index.idx.xml, .HTD or "
            "MeasurementData.mlf. Name the folder."
        )
    fits = {each.name: _count(listing, each) for each in LAYOUTS if each.name in _READERS}
    best = max(fits, key=lambda name: fits[name])
    if fits[best]:
        return assemble(_READERS[best](listing, None), listing, layout(best))
    plate = read_ome_tiffs(listing)
    if plate is None:
        raise _nothing(listing.root, f"among {len(listing.images)} image files")
    return plate


def _by_pattern(listing: Listing, text: str) -> Plate:
    pattern = parse_pattern(text)
    fits = pattern.match(sorted((*listing.images, *listing.refused)))
    check_groups(pattern, fits)
    if not fits:
        raise UserInputError(
            f"The pattern {text!r} fits none of {len(listing.images)} image files in {listing.root.name}; expected one "
            "that fits their whole names. " + _example(listing)
        )
    if "z" not in pattern.groups:
        return read_images(listing, fits)
    records = [made for path, groups in fits.items() if (made := record(path, groups)) is not None]
    channels = {each.channel: Channel(each.channel) for each in records}
    plates = {groups.get("plate") for groups in fits.values()} - {None}
    if len(plates) > 1:
        raise UserInputError(
            f"The pattern {text!r} finds {len(plates)} plates, such as {sorted(map(str, plates))[:3]}; expected one. "
            "Write the name of one of them in place of {plate}."
        )
    name = str(plates.pop()) if plates else listing.root.name
    return assemble(Findings(records, channels, name), listing, layout("pattern"))


def _index(listing: Listing, kind: Layout, given: Path | None) -> Path | None:
    """Return the file that describes a plate of some layout: given, in the folder, or beside its images."""
    if given is not None:
        return given if _describes(given.name, kind) else None
    found = sorted((path for path in listing.others if _describes(path, kind)), key=lambda path: _rank(path, kind))
    if found:
        alike = [path for path in found if _rank(path, kind)[:2] == _rank(found[0], kind)[:2]]
        # Some versions of MetaXpress repeat the description in the folder of every time point.
        if len({re.sub(r"TimePoint_\d+/", "", path) for path in alike}) > 1:
            raise UserInputError(
                f"{listing.root.name} holds {len(alike)} plates, described by {', '.join(alike[:3])}"
                f"{', …' if len(alike) > 3 else ''}; expected one. Name the folder or the index of one of them."
            )
        return listing.root / found[0]
    if kind.name == "harmony" and _count(listing, kind):
        return next(_above(listing.root, kind), None)
    return None


def _describes(path: str, kind: Layout) -> bool:
    name = path.rpartition("/")[2].lower()
    return any(name.endswith(each) if each.startswith(".") else name == each for each in kind.metadata)


def _rank(path: str, kind: Layout) -> tuple[int, int, str]:
    """Order indexes: the fewest folders first, then as the table lists them."""
    name = path.rpartition("/")[2].lower()
    order = [name.endswith(each) for each in kind.metadata]
    return path.count("/"), order.index(True), path


def _above(folder: Path, kind: Layout) -> Iterator[Path]:
    """Yield indexes in the folder above: Harmony 7 puts them there."""
    for each in sorted(folder.parent.iterdir()):
        if each.name.lower() in kind.metadata and each.is_file() and not each.is_symlink():
            yield each


def _count(listing: Listing, kind: Layout) -> int:
    """Return how many names say at least two things in the way of a layout; "A01.tif" alone says too little."""
    if kind.files is None:
        return 0
    paths = (*listing.images, *listing.refused)
    return sum(sum(value is not None for value in groups.values()) > 1 for _, groups in matches(kind.files, paths))


def _nothing(folder: Path, where: str) -> UserInputError | StoredDataError:
    titles = "; ".join(each.title for each in LAYOUTS if each.name != "pattern")
    return UserInputError(
        f"No field was found in {folder.name or folder}, {where}; expected one of these layouts: {titles}. Name the "
        "folder of one plate, or say what its files are called, for example "
        "--pattern '{row}{column}_f{field}_z{z}_c{channel}.tif'."
    )


def _example(listing: Listing) -> str:
    first = next(iter(sorted(listing.images)), None)
    return "Name another folder." if first is None else f"The first file is {first!r}: write the pattern like it."
