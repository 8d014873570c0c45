"""Look through a result on disk, from its metadata to its last pixel, and name what is wrong with it."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tifffile

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.io.disk.access import existing, permitted
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.picture_files import inspect
from hybridfusion_core.io.result_spec import array_of
from hybridfusion_core.io.suffixes import OUTPUT_SUFFIXES, ZARR_SUFFIXES, has_suffix, output_suffix, result_paths
from hybridfusion_core.io.tiff.check import check_tiff
from hybridfusion_core.io.zarr.check import check_zarr, field_paths, group_attributes, label_folders

_LISTED = 10  # findings of one kind


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


def check_field(plate: Path, maps: Path, field: str) -> list[str]:
    """Read one image of an OME-Zarr plate, with its labels and its maps.

    Args:
        plate: folder of the plate.
        maps: folder of the plate of its maps, which need not be there.
        field: path of the image inside both.

    Returns:
        What is wrong, one sentence each.
    """
    if not (plate / field).is_dir():
        return [f"{plate.name}/{field} is missing"]
    of_maps = _check_zarr(maps / field) if (maps / field).exists() else ()
    return [*_check_zarr(plate / field), *of_maps, *_missing_of_plate(plate, maps, [field])]


def _findings(target: Path) -> list[str]:
    suffix = ".ome.zarr" if has_suffix(target, ZARR_SUFFIXES) else output_suffix(target)
    if suffix is None or target.is_dir() != (suffix == ".ome.zarr"):
        raise UserInputError(
            f"{target} is no output of `fuse`; expected a name that ends in {', '.join(OUTPUT_SUFFIXES)}. "
            "Name the fused image itself."
        )
    if suffix == ".png":
        return shortened(_check_png(target))
    paths = result_paths(target)
    # First of all: reading a pipe may wait forever.
    strange = [each for path in paths.values() for each in path.rglob("*") if not (each.is_file() or each.is_dir())]
    if strange:
        return shortened([f"{each.relative_to(target.parent)} is no file and no folder" for each in strange])
    if suffix != ".ome.zarr":
        return shortened([*_check_tiff(target), *_check_companions(target, _check_tiff, ("maps", "decision"))])
    try:
        fields = field_paths(target)
    except Exception:  # damaged metadata of a plate, which are among the findings
        fields = []
    if fields is None:
        missing = [*_missing_decision(target, target.name), *_check_companions(target, _check_zarr, ("maps",))]
        return shortened([*_check_zarr(target), *missing])
    maps = paths["maps"]
    of_maps = _check_zarr(maps) if maps.exists() else ()
    return shortened([*_check_zarr(target), *of_maps, *_missing_of_plate(target, maps, fields)])


def _check_zarr(path: Path) -> Iterator[str]:
    yield from check_zarr(path)
    try:
        fields = field_paths(path)
    except Exception:  # said there
        return
    for image in [path] if fields is None else [path / field for field in fields]:
        for labels in label_folders(image):
            yield from _check_size(image, labels)


def _check_tiff(path: Path) -> Iterator[str]:
    try:
        with open_stack(path):
            pass
    except HybridFusionError as error:
        yield f"{path.name} cannot be opened: {error}"
        return
    yield from check_tiff(path)


def _check_companions(target: Path, check: Callable[[Path], Iterator[str]], roles: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the files that belong to an image, and which of them are missing."""
    products = _products(target)
    expected = {"maps": _has_maps(products), "decision": "decision" in products}
    for role in roles:
        companion = result_paths(target)[role]
        if companion.exists():
            yield from check(companion)
            yield from _check_size(target, companion)
        elif expected[role]:
            yield f"{companion.name} is missing; it was asked for when this was fused"


def _missing_decision(image: Path, name: str) -> Iterator[str]:
    if "decision" in _products(image) and not (image / "labels" / "decision").is_dir():
        yield f"{name}/labels/decision is missing; it was asked for when this was fused"


def _missing_of_plate(target: Path, maps: Path, fields: list[str]) -> Iterator[str]:
    """Yield what was asked for and is not there, field by field."""
    for field in fields:
        image, companion = target / field, maps / field
        yield from _missing_decision(image, f"{target.name}/{field}")
        if companion.exists():
            yield from _check_size(image, companion)
        elif _has_maps(_products(image)):
            yield f"{maps.name}/{field} is missing; it was asked for when this was fused"


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
            provenance = group_attributes(path)["hybridfusion"]
        else:
            with tifffile.TiffFile(path) as file:
                text = re.search('<M K="hybridfusion">(.*?)</M>', file.ome_metadata or "", re.DOTALL)
                provenance = json.loads(html.unescape(text[1]) if text else (file.imagej_metadata or {})["Info"])
        return dict(provenance)
    except Exception:  # a damaged file is found elsewhere
        return {}


def _products(path: Path) -> set[str]:
    """Return which products were asked for when this was fused; none if the result does not say."""
    try:
        return set(stored_provenance(path)["settings"]["products"])
    except (LookupError, TypeError):
        return set()


def _has_maps(products: set[str]) -> bool:
    return any(array_of(product) == "maps" for product in products)


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
