"""Sample images that need no download: a synthetic organoid, a pair of photographs and a plate, by name."""

from __future__ import annotations

import os
from pathlib import Path

import imagecodecs
import numpy as np

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import Delivery
from hybridfusion_core.io.suffixes import PICTURE_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIXES, has_suffix
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.scenes.samples.organoid import organoid_stack, organoid_with_surface
from hybridfusion_core.scenes.samples.pair import pair_stack
from hybridfusion_core.scenes.samples.plate import plate_stacks, write_plate

__all__ = ["SAMPLES", "organoid_stack", "organoid_with_surface", "pair_stack", "plate_stacks", "write_sample"]

SAMPLES = ("organoid", "pair", "plate")


def write_sample(name: str, path: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
    """Write a sample.

    Args:
        name: "organoid", an OME-TIFF, "pair", two PNGs, or "plate", an OME-Zarr plate of four wells.
        path: for "organoid" the file, ending in .ome.tif; for "pair" the folder that gets `1_near.png` and
            `2_far.png`, created if it is missing; for "plate" the store, ending in .ome.zarr.
        overwrite: replace existing files of these names.

    Returns:
        The files, in slice order; the store, for a plate.

    Raises:
        UserInputError: unknown sample, wrong suffix, missing folder, or a file that may not be replaced.
        StoredDataError: what was read back is not what was written.
    """
    writers = {"organoid": _write_organoid, "pair": _write_pair, "plate": _write_plate}
    if name not in writers:
        raise UserInputError(f"There is no sample {name!r}; expected one of {', '.join(SAMPLES)}. Name one of them.")
    return writers[name](Path(path), overwrite)


def _write_organoid(path: Path, overwrite: bool) -> list[Path]:
    if not has_suffix(path, TIFF_SUFFIXES) or path.is_dir():
        raise UserInputError(
            f"The organoid is one OME-TIFF file, {path.name!r} is {'a folder' if path.is_dir() else 'no such name'}; "
            "expected a name that ends in .ome.tif."
        )
    Delivery((path,), overwrite=overwrite).discard()  # refuse before the drawing, not after it
    stack = organoid_stack()
    pixels = np.asarray(stack.array)[np.newaxis]  # C Z Y X -> T C Z Y X
    write_stack(
        path, pixels, name=stack.name, channels=stack.channels, z=stack.z, y=stack.y, x=stack.x, overwrite=overwrite
    )
    return [path]


def _write_pair(folder: Path, overwrite: bool) -> list[Path]:
    if has_suffix(folder, (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)) or (folder.exists() and not folder.is_dir()):
        raise UserInputError(
            f"The pair is two files, {folder.name!r} is the name of one; expected a folder, which is created if it is "
            "missing. Leave out the suffix or choose another name."
        )
    if not folder.parent.is_dir():
        raise UserInputError(
            f"The folder {folder.parent} does not exist; expected an existing folder for {folder.name}. Create it or "
            "choose another one."
        )
    created = not folder.exists()
    folder.mkdir(exist_ok=True)
    paths = [folder / "1_near.png", folder / "2_far.png"]
    try:
        delivery = Delivery(paths, overwrite=overwrite)
        try:
            for path, plane in zip(paths, np.asarray(pair_stack().array), strict=True):
                delivery.part(path).write_bytes(imagecodecs.png_encode(plane))
            delivery.publish()
        finally:
            delivery.discard()
    except BaseException:
        if created:
            folder.rmdir()
        raise
    return paths


def _write_plate(path: Path, overwrite: bool) -> list[Path]:
    if not has_suffix(path, ZARR_SUFFIXES):
        raise UserInputError(
            f"The plate is one OME-Zarr, {path.name!r} is no such name; expected a name that ends in .ome.zarr."
        )
    delivery = Delivery((path,), overwrite=overwrite)
    try:
        write_plate(delivery.part(path))
        delivery.publish()
    finally:
        delivery.discard()
    return [path]
