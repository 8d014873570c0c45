"""What must hold before a TIFF is believed: tifffile only logs most of this and reads zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import tifffile

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.spelling import on_disk
from hybridfusion_core.io.suffixes import TIFF_SUFFIXES
from hybridfusion_core.io.tiff import ome_xml
from hybridfusion_core.io.tiff.full_series import full_axes, full_shape

_LOST_DESCRIPTION = "TiffTag 270 "  # tifffile logs no other fault of ImageDescription than where it lies
_MOST_PLANES = 10_000_000
_MOST_THUMBNAILS = 8  # of one file


def check_companions(root: Any, path: Path) -> dict[str, str]:
    """Check that every file that the OME-XML names lies beside this one.

    Returns:
        How files are called on the disk whose names look the same in the OME-XML and are spelt otherwise.

    Raises:
        StoredDataError: a companion is missing or lies elsewhere.
        UserInputError: this file is itself a companion.
    """
    master = ome_xml.metadata_file(root)
    if master is not None:
        raise UserInputError(
            f"{path.name} holds pixels only; its metadata are in {master!r}. Expected the file with the metadata. "
            + (
                "Open that one instead."
                if master.lower().endswith(TIFF_SUFFIXES)
                else "Such a file without pixels cannot be opened either: export the image as OME-TIFF again."
            )
        )
    names = sorted(ome_xml.file_names(root))
    called = {}
    for companion in names:
        if companion != PurePosixPath(companion).name or companion != PureWindowsPath(companion).name:
            raise StoredDataError(
                f"{path.name} names the companion file {companion!r}; expected a file in the same folder. "
                "The metadata are damaged or hostile: export the image again."
            )
        # A file that was renamed still finds itself: tifffile goes by its UUID.
        called[companion] = on_disk(companion, path.parent)
        if called[companion] is None and len(names) > 1:
            raise StoredDataError(
                f"{path.name} is one part of a multi-file OME-TIFF and {companion!r} is missing; expected all parts "
                "in one folder. Copy the missing file beside this one."
            )
    for companion, stated in sorted(ome_xml.file_uuids(root).items()):
        there = called[companion] or companion
        found = root.get("UUID") if there == path.name else _uuid(path.parent / there)
        if found is not None and found != stated:
            raise StoredDataError(
                f"{path.name} names {companion!r} with the UUID {stated!r}, that file has {found!r}; expected the file "
                "that was written together with this one. Copy the right one beside it."
            )
    return {stated: there for stated, there in called.items() if there is not None and there != stated}


def _uuid(path: Path) -> str | None:
    """Return the UUID that a file gives itself, or None if it says nothing."""
    if not path.is_file():
        return None
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    return None if text is None else ome_xml.parse(text, path.name).get("UUID")


def check_description(lines: Sequence[str], name: str) -> None:
    """Check that the text that describes the first page lies inside the file: behind all pixels it is cut off first.

    Args:
        lines: what tifffile logged while it read the tags of the first page.
        name: of the file.

    Raises:
        StoredDataError: it does not, so that axes, scale and channels are lost.
    """
    if any(_LOST_DESCRIPTION in line for line in lines):
        raise StoredDataError(
            f"{name} is cut short: its description, with axes, scale and channels, lies behind its end; expected a "
            "whole file. Copy or export it again, or say what its axes are, for example --axes ZYX (Python: axes=), to "
            "read its pixels without scale and channels."
        )


def check_pages(file: Any, name: str) -> None:
    """Check that there is a page at all.

    Raises:
        StoredDataError: there is none.
    """
    if len(file.pages) == 0:
        raise StoredDataError(f"{name} has no pages; expected at least one image. Export it again.")


def check_chain(file: Any, name: str) -> None:
    """Check that the last page says that it is the last.

    Raises:
        StoredDataError: the file is cut short.
    """
    pages = len(file.pages)
    file.filehandle.seek(file.pages.next_page_offset)
    following = file.filehandle.read(file.tiff.offsetsize)
    if len(following) < file.tiff.offsetsize or any(following):
        raise StoredDataError(
            f"{name} ends after page {pages}, though another page is announced; expected a whole file. "
            "It is cut short or damaged: copy or export it again."
        )


def check_page_count(
    file: Any, described: Sequence[Description], companions: Set[str], name: str, *, named: bool
) -> tuple[str, ...]:
    """Check that the planes that the OME-XML describes have pages, and that no plane is left over.

    Before tifffile makes a list of them: a damaged size may promise more than fit in memory.

    Args:
        file: tifffile.TiffFile.
        described: the images, by the OME-XML.
        companions: names of the files that hold planes.
        name: what to call the file in messages.
        named: the OME-XML says of each plane which page it is; pages that it does not name are none.

    Returns:
        Warnings: pages that are no planes, such as a thumbnail.

    Raises:
        StoredDataError: there are fewer pages, or more that look like planes.
    """
    promised, pages = sum(each.planes for each in described), len(file.pages)
    if not described or promised == pages or (len(companions) > 1 and promised <= _MOST_PLANES):
        return ()
    if 0 < promised < pages and len(companions) <= 1 and (named or _are_thumbnails(file, promised)):
        left = pages - promised
        return (f"{left} of {pages} pages of the file are no planes by its OME-XML (thumbnails?): left out.",)
    raise StoredDataError(
        f"{name}: the OME-XML describes {promised} planes, the file has {pages} pages; expected a page for every "
        "plane. The file is cut short or was edited: export it again."
    )


def _are_thumbnails(file: Any, planes: int) -> bool:
    """Say whether all pages behind the planes are marked as reduced, or of another size."""
    if len(file.pages) - planes > _MOST_THUMBNAILS:
        return False
    first = file.pages.first
    behind = [file.pages[index].aspage() for index in range(planes, len(file.pages))]
    return all(
        page.is_reduced or (page.imagelength, page.imagewidth) != (first.imagelength, first.imagewidth)
        for page in behind
    )


def check_alike(series: Any, name: str) -> None:
    """Check that all pages of an image are of one size, for a file that has more pages than planes.

    Raises:
        StoredDataError: one is not.
    """
    wanted = series.keyframe.imagelength, series.keyframe.imagewidth
    for number, page in enumerate(series.pages):
        own = None if page is None or page.parent.filehandle.closed else page.aspage()
        if own is not None and (own.imagelength, own.imagewidth) != wanted:
            raise StoredDataError(
                f"{name}: the page of plane {number} is {own.imagelength} × {own.imagewidth}, others are {wanted[0]} × "
                f"{wanted[1]}; expected planes of one size. The OME-XML counts a thumbnail as a plane: export it again."
            )


def check_planes(all_series: list[Any], described: Sequence[Description], name: str) -> None:
    """Check that there are images, and that those the OME-XML describes were found.

    Raises:
        StoredDataError: no image, no plane, or metadata that do not fit the pages.
    """
    if not all_series:
        raise StoredDataError(f"{name} holds no image; expected at least one plane of pixels. Export it again.")
    known = sum(each.kind in ("ome", "mmstack") for each in all_series)
    if described and known < len(described):
        raise StoredDataError(
            f"{name}: the OME-XML describes {len(described)} images, the file holds {known} of them; expected "
            "metadata that fit the pages. The file is damaged or was edited: export it again."
        )


def check_sizes(series: Any, about: Description, name: str) -> None:
    """Check that the pixels have the sizes that the OME-XML promises.

    Raises:
        StoredDataError: they differ.
    """
    lengths = dict(zip(full_axes(series), full_shape(series), strict=True))
    if set(lengths) - set("TCZYXS"):
        return  # modulo axes split a size in two; `stored_letters` has asked the user
    lengths["C"] = lengths.get("C", 1) * lengths.pop("S", 1)
    wrong = [
        f"{axis}={lengths.get(axis, 1)} instead of {size}" for axis, size in about.sizes if lengths.get(axis, 1) != size
    ]
    if wrong:
        raise StoredDataError(
            f"{name}: the pixels have {', '.join(wrong)}; expected the sizes that the OME-XML states. "
            "The file is damaged or was edited: export it again."
        )


def check_imagej(file: Any, series: Any, name: str) -> None:
    """Check that all planes that ImageJ says it wrote are there: tifffile takes what it finds.

    Raises:
        StoredDataError: there are fewer.
    """
    stated = (file.imagej_metadata or {}).get("images", 1)
    page = math.prod(series.keyframe.shape)
    found = math.prod(full_shape(series)) // max(page, 1)
    if isinstance(stated, int) and stated > found:
        raise StoredDataError(
            f"{name}: ImageJ wrote {stated} planes, the file holds {found}; expected all of them. "
            "It is cut short: copy or export it again."
        )


def check_extent(series: Any, name: str) -> None:
    """Check that every plane exists and lies within its file.

    Raises:
        StoredDataError: a plane is missing or cut off.
    """
    if series.dataoffset is not None:  # one contiguous run, possibly behind a single page
        end, size = series.dataoffset + series.nbytes, series.keyframe.parent.filehandle.size
        if end > size:
            raise _cut(name, end, size)
        return
    for number, page in enumerate(series.pages):
        if page is None:
            raise StoredDataError(
                f"{name}: plane {number} of {len(series.pages)} is missing; expected as many planes as the metadata "
                "state. The file is cut short or damaged: copy or export it again."
            )
        check_page(page, name, number)


def check_page(page: Any, name: str, number: int = 0) -> None:
    """Check that all pixels of one page lie within its file.

    Raises:
        StoredDataError: some are cut off, or were never written.
    """
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    end, size = int((offsets + counts).max(initial=0)), page.parent.filehandle.size
    if end > size:
        raise _cut(name, end, size)
    if not offsets.size or not np.all((offsets > 0) & (counts > 0)):
        raise StoredDataError(
            f"{name}: plane {number} has parts without data; expected a value for every pixel. "
            "Writing the file was interrupted, or it is sparse: export it again."
        )


def _cut(name: str, end: int, size: int) -> StoredDataError:
    return StoredDataError(
        f"{name} has {size} bytes, its pixels reach to byte {end}; expected a whole file. "
        "It is cut short: copy or export it again."
    )
