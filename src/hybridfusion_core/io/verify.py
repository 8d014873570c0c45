"""Look through a result on disk, from its metadata to its last pixel, and name what is wrong with it."""

from __future__ import annotations

import html
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tifffile
import yaozarrs
import zarr
from zarr.storage import LocalStore

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.disk.access import existing, permitted
from hybridfusion_core.io.level_check import Level, check_levels
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.picture_files import inspect
from hybridfusion_core.io.pyramid import Method
from hybridfusion_core.io.result_spec import array_of
from hybridfusion_core.io.suffixes import OUTPUT_SUFFIXES, ZARR_SUFFIXES, has_suffix, output_suffix, result_paths
from hybridfusion_core.io.tiff.tiles import tiled
from hybridfusion_core.io.zarr.arrays import files_of
from hybridfusion_core.io.zarr.image import is_zarr

_TIFF_STEP = (1024, 1024)  # px along Y and X that are read at once
_LISTED = 10  # findings of one kind; more help nobody


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Read a result as a whole, with its decision and its maps.

    Args:
        path: what `fuse` or `batch` wrote.

    Returns:
        What is wrong, one sentence each; nothing if all is well: every chunk or tile is there and can be
        read, the metadata are valid, and each level of each pyramid is the level below made smaller.

    Raises:
        UserInputError: there is nothing, or nothing that `fuse` writes.
    """
    target = existing(Path(path), "the output of `fuse`")
    with permitted(target):
        return _findings(target)


def check_image(folder: Path) -> list[str]:
    """Read one image of an OME-Zarr plate, with its labels.

    Args:
        folder: of the image.

    Returns:
        What is wrong, one sentence each.
    """
    return list(_check_zarr(folder))


def _findings(target: Path) -> list[str]:
    suffix = ".ome.zarr" if has_suffix(target, ZARR_SUFFIXES) else output_suffix(target)
    if suffix is None or target.is_dir() != (suffix == ".ome.zarr"):
        raise UserInputError(
            f"{target} is no output of `fuse`; expected a name that ends in {', '.join(OUTPUT_SUFFIXES)}. "
            "Name the fused image itself."
        )
    if suffix == ".png":
        return shortened(_check_png(target))
    check = _check_zarr if suffix == ".ome.zarr" else _check_tiff
    paths = result_paths(target)
    # First of all: reading a pipe may wait forever.
    strange = [each for path in paths.values() for each in path.rglob("*") if not (each.is_file() or each.is_dir())]
    if strange:
        return shortened([f"{each.relative_to(target.parent)} is no file and no folder" for each in strange])
    findings = list(check(target))
    try:
        fields = _fields(target) if suffix == ".ome.zarr" else None
    except Exception:  # damaged metadata of a plate, which are among the findings
        fields = []
    if fields is not None:
        if paths["maps"].exists():
            findings += check(paths["maps"])
        return shortened([*findings, *_missing_of_plate(target, paths["maps"], fields)])
    products = _products(target)
    companions = {"maps": _has_maps(products)}
    if suffix != ".ome.zarr":  # there the decision lies inside
        companions["decision"] = "decision" in products
    elif "decision" in products and not (target / "labels" / "decision").is_dir():
        findings.append(f"{target.name}/labels/decision is missing; it was asked for when this was fused")
    for role, expected in companions.items():
        companion = paths[role]
        if companion.exists():
            findings += check(companion)
            findings += _check_size(target, companion)
        elif expected:
            findings.append(f"{companion.name} is missing; it was asked for when this was fused")
    return shortened(findings)


def _check_zarr(path: Path) -> Iterator[str]:
    if not is_zarr(path):
        yield f"{path.name} has no zarr metadata; expected zarr.json or .zgroup"
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the standard only recommends
            yaozarrs.validate_zarr_store(str(path))
    except Exception as error:  # whatever damaged JSON makes of a validator
        yield f"{path.name} has metadata that are no valid OME-Zarr ({_first_line(error)})"
    try:
        fields = _fields(path)
    except Exception as error:  # whatever strangers wrote
        yield f"{path.name} is a plate whose wells cannot be understood ({type(error).__name__}: {_first_line(error)})"
        return
    for image in [path] if fields is None else [path / field for field in fields]:
        name = image.relative_to(path.parent).as_posix()
        yield from _check_zarr_image(image, name)
        if (image / "labels").is_dir():
            for folder in sorted(each for each in (image / "labels").iterdir() if each.is_dir()):
                yield from _check_zarr_image(folder, f"{name}/labels/{folder.name}")
                yield from _check_size(image, folder)


def _fields(path: Path) -> list[str] | None:
    """Return the paths of all fields of a plate; None if this is no plate.

    Raises:
        Exception: of any kind, when its metadata are damaged.
    """
    try:
        plate = _attributes(path).get("plate")
    except Exception:  # no zarr at all, which is found elsewhere
        return None
    if plate is None:
        return None
    wells = [str(well["path"]) for well in plate["wells"]]
    return [
        _inside(path, f"{well}/{image['path']}").relative_to(path.resolve()).as_posix()
        for well in wells
        for image in _attributes(_inside(path, well))["well"]["images"]
    ]


def _missing_of_plate(target: Path, maps: Path, fields: list[str]) -> Iterator[str]:
    """Yield what was asked for and is not there, field by field."""
    for field in fields:
        image, companion = target / field, maps / field
        products = _products(image)
        name = f"{target.name}/{field}"
        if "decision" in products and not (image / "labels" / "decision").is_dir():
            yield f"{name}/labels/decision is missing; it was asked for when this was fused"
        if companion.exists():
            yield from _check_size(image, companion)
        elif _has_maps(products):
            yield f"{maps.name}/{field} is missing; it was asked for when this was fused"


def _check_zarr_image(folder: Path, name: str) -> Iterator[str]:
    try:
        entry = _attributes(folder)["multiscales"][0]
        axes = "".join(str(axis["name"]).upper() for axis in entry["axes"])
        inside = [str(dataset["path"]) for dataset in entry["datasets"]]
        scales = [dataset["coordinateTransformations"][0]["scale"] for dataset in entry["datasets"]]
        arrays = [zarr.open_array(LocalStore(_inside(folder, each), read_only=True), mode="r") for each in inside]
        gaps = _missing_times(folder)
        method: Method = "nearest" if entry.get("type") == "nearest" else "mean"
        fits = "Y" in axes and "X" in axes and all(len(array.shape) == len(axes) for array in arrays)
    except Exception as error:
        yield f"{name} cannot be opened as an image ({type(error).__name__}: {_first_line(error)})"
        return
    if not fits:
        yield f"{name} has the axes {axes}, which its arrays of {[array.ndim for array in arrays]} axes do not fit"
        return
    levels = []
    for part, array in zip(inside, arrays, strict=True):
        files = [file for _, file in files_of(array, folder / part)]
        # zarr takes an empty file for an absent one, and an absent one for zeros.
        missing = [file for file in files if not file.is_file() or not file.stat().st_size]
        missing = [file for file in missing if not _is_missing_time(file.relative_to(folder / part), gaps)]
        yield from (f"{name}: {file.relative_to(folder)} is missing or empty" for file in missing)
        lengths = dict(zip(axes, array.shards or array.chunks, strict=True))
        levels.append(Level(array, axes, (lengths["Y"], lengths["X"]), not missing, _namer(array, part)))
    yield from check_levels(levels, method, name)
    first = levels[0].plane
    for number, (level, scale) in enumerate(zip(levels, scales, strict=True)):
        for axis, length, whole in zip("YX", level.plane, first, strict=True):
            step = scale[axes.index(axis)] / scales[0][axes.index(axis)]
            # The last pixel may stand for one that is not there.
            if not abs(step * length - whole) < step:
                yield f"{name}, level {number} has a scale that does not fit its size along {axis}"


def _missing_times(folder: Path) -> frozenset[int]:
    """Return the time points that a batch could not fuse, and has named in the metadata of the image."""
    found = stored_provenance(folder).get("missing_times")
    return frozenset(each for each in found if isinstance(each, int)) if isinstance(found, list) else frozenset()


def _is_missing_time(chunk: Path, times: frozenset[int]) -> bool:
    """Say whether the file of a chunk, T C Z Y X, belongs to a time point that has no pixels."""
    first = next((each for each in chunk.parts if each.isdecimal()), "")
    return first.isdecimal() and int(first) in times


def _namer(array: Any, part: str) -> Callable[[tuple[int, ...]], str]:
    lengths = array.shards or array.chunks

    def name_of(position: tuple[int, ...]) -> str:
        index = tuple(start // length for start, length in zip(position, lengths, strict=True))
        return f"{part}/{array.metadata.encode_chunk_key(index)}"

    return name_of


def _attributes(folder: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(zarr.open_group(LocalStore(folder, read_only=True), mode="r").attrs)
    inside = attributes.get("ome")
    return {**attributes, **inside} if isinstance(inside, Mapping) else attributes


def _inside(folder: Path, part: str) -> Path:
    target = (folder / part).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(f"the dataset path {part!r} leads out of the store")
    return target


def _check_tiff(path: Path) -> Iterator[str]:
    try:
        with open_stack(path):
            pass
    except HybridFusionError as error:
        yield f"{path.name} cannot be opened: {error}"
        return
    with tifffile.TiffFile(path) as file:
        if not (file.is_imagej or file.is_ome):
            yield f"{path.name} lacks its description"  # stands at the end: tifffile goes on without it
        series = file.series[0]
        axes = series.get_axes(squeeze=False)
        levels = []
        for number, level in enumerate(series.levels):
            damaged = list(_damaged_tiles(level.pages, f"{path.name}, level {number}"))
            yield from damaged
            array, _ = tiled(series, number)
            levels.append(Level(array, axes, _TIFF_STEP, not damaged, lambda _: "the plane"))
        if not file.is_imagej:  # which has no pyramid
            yield from check_levels(levels, "nearest" if ".decision." in path.name else "mean", path.name)


def _damaged_tiles(pages: Any, name: str) -> Iterator[str]:
    """Decode every tile or strip once; tifffile takes one that is not there for zeros."""
    for number, page in enumerate(pages):
        if page is None:
            yield f"{name}: plane {number} is missing"
            continue
        page = page.aspage()  # noqa: PLW2901
        missing = sum(not count for count in page.databytecounts)
        if missing:
            yield f"{name}: plane {number} lacks {missing} of {len(page.databytecounts)} tiles or strips"
        try:
            for _ in page.segments(maxworkers=1):
                pass
        except MemoryError:
            raise
        except Exception as error:
            yield f"{name}: plane {number} cannot be read ({type(error).__name__}: {_first_line(error)})"


def _check_png(path: Path) -> Iterator[str]:
    try:
        inspect(path).read()
    except HybridFusionError as error:
        yield f"{path.name} cannot be read: {error}"


def _check_size(image: Path, companion: Path) -> Iterator[str]:
    """Yield when a decision or maps have other time points, rows or columns than their image."""
    try:
        with open_stack(image) as one, open_stack(companion) as other:
            shapes = [(stack.shape[0], *stack.shape[3:]) for stack in (one, other)]
    except HybridFusionError:
        return  # said where that image was looked at
    if shapes[0] != shapes[1]:
        yield f"{companion.name} has T Y X = {shapes[1]}, its image {image.name} has {shapes[0]}"


def stored_provenance(path: Path) -> dict[str, Any]:
    """Return what an OME-Zarr or TIFF result says of how it was made; nothing if it says nothing or is damaged."""
    try:
        if path.is_dir():
            provenance = _attributes(path)["hybridfusion"]
        else:
            with tifffile.TiffFile(path) as file:
                text = re.search('<M K="hybridfusion">(.*?)</M>', file.ome_metadata or "", re.DOTALL)
                provenance = json.loads(html.unescape(text[1]) if text else (file.imagej_metadata or {})["Info"])
        return dict(provenance)
    except Exception:  # a damaged file is found elsewhere
        return {}


def _products(path: Path) -> set[str]:
    """Return which products were asked for when this was fused, as far as that is known."""
    try:
        return set(stored_provenance(path)["settings"]["products"])
    except (LookupError, TypeError):
        return set()


def _has_maps(products: set[str]) -> bool:
    return any(array_of(product) == "maps" for product in products)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def shortened(findings: Iterator[str] | list[str]) -> list[str]:
    """Return a few findings of each kind, and how many more there are."""
    kept: list[str] = []
    counts: dict[str, int] = {}
    for finding in findings:
        kind = re.sub("[0-9]+", "#", finding)
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _LISTED:
            kept.append(finding)
    more = sum(max(count - _LISTED, 0) for count in counts.values())
    return [*kept, f"{more} more of the same kinds"] if more else kept
