"""Open a TIFF as a `Stack`: OME-TIFF, ImageJ hyperstack, plain TIFF, grey or RGB(A).

Reading is lazy: tifffile finds the planes, its zarr view decodes the tiles and strips of a region.
tifffile answers most damage with a log line and zeros, so everything it promises is checked here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tifffile

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.region import RegionView, decode_unit
from hybridfusion_core.io.series import chosen_series
from hybridfusion_core.io.suffixes import image_name
from hybridfusion_core.io.tiff.axes import stored_letters
from hybridfusion_core.io.tiff.checks import (
    check_alike,
    check_chain,
    check_description,
    check_extent,
    check_imagej,
    check_page_count,
    check_pages,
    check_planes,
    check_sizes,
)
from hybridfusion_core.io.tiff.full_series import full_axes, full_series, full_shape
from hybridfusion_core.io.tiff.micro_manager import apart
from hybridfusion_core.io.tiff.ome_header import OmeHeader, read_ome_header
from hybridfusion_core.io.tiff.raw import raw_planes
from hybridfusion_core.io.tiff.tags import describe_imagej, describe_plain, has_alpha, is_rgb, page_warnings
from hybridfusion_core.io.tiff.tiles import tiled
from hybridfusion_core.stack import ArrayLike, Channel, Stack


def open_tiff(path: Path, axes: str | None = None, series: str | int | None = None) -> Stack:
    """Open a TIFF; nothing but its headers is read.

    Args:
        path: the file.
        axes: what the axes are, where the file does not say (plain multi-page TIFF).
        series: index or name of the image, for a file with several.

    Raises:
        UserInputError: the axes are ambiguous, or the file has several images and none was chosen.
        StoredDataError: the file is no TIFF, is damaged, or misses planes or companion files.
    """
    damage = "an intact TIFF file. It is damaged or something else under a TIFF name: copy or export it again."
    with _log_lines() as lines, guarded(f"{path.name}: this is no readable TIFF", damage):
        file = tifffile.TiffFile(path)
        try:
            if axes is None:
                check_description(lines, path.name)
            stack = _open(file, path, axes, series)
        except BaseException:
            file.close()
            raise
    return replace(
        stack,
        warnings=(*stack.warnings, *(f"tifffile: {line}" for line in lines)),
        closers=(*stack.closers, file.close),
    )


def _open(file: Any, path: Path, axes: str | None, series: str | int | None) -> Stack:
    name = path.name
    check_pages(file, name)
    header = read_ome_header(file, path, axes)
    check_chain(file, name)
    unnamed = check_page_count(file, header.described, header.companions, name, named=header.names_pages)
    all_series = _images(file, header, name)
    names, shapes = [str(each.name or "") for each in all_series], [each.shape for each in all_series]
    index = chosen_series(names, shapes, series, name)
    chosen = all_series[index]
    if chosen.kind == "imagej" or (not header.described and file.is_imagej):
        check_imagej(file, chosen, name)
    check_extent(chosen, name)
    if unnamed:
        check_alike(chosen, name)
    handle = chosen.keyframe.parent.filehandle
    if handle.closed:  # tifffile closes a companion once it was looked through
        handle.open()
    stack = _stack(file, chosen, header.described[index : index + 1], axes, name)
    stem = image_name(path)
    return replace(
        stack,
        name=f"{stem} {chosen.name or index}" if len(all_series) > 1 else stem,
        source=tuple(_companions(path, header.companions, all_series)),
        warnings=(*header.warnings, *unnamed, *stack.warnings),
        closers=(handle.close,),
    )


def _images(file: Any, header: OmeHeader, name: str) -> list[Any]:
    """Return every image of a file as tifffile.TiffPageSeries, thumbnails of plain TIFF aside."""
    found = list(apart(full_series(file), [each.name for each in header.described]))
    check_planes(found, header.described, name)
    whole = [each for each in found if each.kind in ("ome", "mmstack") or not each.keyframe.is_reduced]
    return whole or found


def _stack(file: Any, series: Any, described: Sequence[Description], axes: str | None, name: str) -> Stack:
    """Make a stack of one image; `described` holds what OME-XML says of it, or nothing."""
    page = series.keyframe
    letters = stored_letters(series, axes, name, rgb=is_rgb(page))
    shown, alpha = _channel_count(series, letters, page)
    array, chunks = _pixels(series)
    view = RegionView(array, letters, name, channels=shown)
    rgb = is_rgb(page) and shown == 3
    about = described[0] if described else _described_by_tags(file, series, view)
    if series.kind == "ome":
        check_sizes(series, about, name)
    # tifffile marks a stack of three slices as colours when it is not told what they are.
    guessed = rgb and axes is None and int(page.planarconfig) == 2 and series.kind not in ("ome", "imagej")
    stack = Stack(
        array=view,
        axes=view.axes,
        name=name,
        channels=_channels(about, view, rgb=rgb),
        t=about.t,
        z=about.z,
        y=about.y,
        x=about.x,
        z_positions_um=_positions(about, view),
        na=about.na,
        rgb=rgb,
        warnings=(*about.warnings, *page_warnings(page, alpha=alpha), *_colour_warnings(guessed=guessed)),
    )
    return stack if chunks is None else replace(stack, decode_unit=decode_unit(letters, chunks, stack.shape))


def _companions(path: Path, named: Set[str], all_series: list[Any]) -> list[str]:
    """Return all other files of an image: those its OME-XML names, and those tifffile found its planes in."""
    several = [series for series in all_series if series.kind in ("ome", "mmstack")]
    parents = {page.parent.filehandle.path for series in several for page in series.pages if page is not None}
    candidates = sorted({path.parent / name for name in named} | {Path(parent) for parent in parents})
    return [str(each) for each in candidates if each.is_file() and not each.samefile(path)]


def _pixels(series: Any) -> tuple[ArrayLike, tuple[int, ...] | None]:
    """Return an array of all axes of a series, and the lengths of what it decodes as a whole."""
    raw = raw_planes(series)
    return tiled(series) if raw is None else (raw, None)


def _described_by_tags(file: Any, series: Any, view: RegionView) -> Description:
    lengths = dict(zip(view.axes, view.shape, strict=True))
    if series.kind == "imagej":
        return describe_imagej(file, lengths.get("C", 1), lengths.get("Z", 1))
    return describe_plain(file)


def _channel_count(series: Any, letters: str, page: Any) -> tuple[int | None, bool]:
    """Return how many samples to show as channels (None: all), and whether alpha is left out."""
    full = full_axes(series)
    at = full.find("S")
    if at < 0 or letters[at] != "C":
        return None, False
    samples = full_shape(series)[at]
    alpha = has_alpha(page) or (is_rgb(page) and samples == 4)
    return samples - alpha, alpha


def _channels(about: Description, view: RegionView, *, rgb: bool) -> tuple[Channel, ...]:
    count = view.shape[view.axes.index("C")] if "C" in view.axes else 1
    if rgb:
        # Colour files describe one channel of three samples: how it was lit holds for each.
        transmitted = about.channels[0].transmitted if about.channels else None
        return tuple(replace(channel, transmitted=transmitted) for channel in RGB_CHANNELS)
    return about.channels if len(about.channels) == count else ()


def _positions(about: Description, view: RegionView) -> tuple[float, ...] | None:
    slices = view.shape[view.axes.index("Z")] if "Z" in view.axes else 1
    positions = about.z_positions_um
    return positions if positions is not None and len(positions) == slices else None


def _colour_warnings(*, guessed: bool) -> Iterator[str]:
    if guessed:
        yield "The three planes are marked as red, green and blue; if they are slices, say --axes ZYX (Python: axes=)."


@contextmanager
def _log_lines() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread, so that it reaches the user as a warning of the stack."""
    lines: list[str] = []
    thread = threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        mine = record.thread == thread and record.levelno >= logging.WARNING
        if mine:
            lines.append(record.getMessage())
        return not mine

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        yield lines
    finally:
        logger.removeFilter(collect)
