"""Fuse one image of a plate, and put the result beside it: same well, same channels, same regions of interest."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import zarr
from ngio import open_ome_zarr_container, open_ome_zarr_well
from pydantic import validate_call

from hybridfusion_core.batch.output.tables import copy_tables
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.api import fuse_to
from hybridfusion_core.io.zarr.ngff_writing import Ngff

_KEPT = ("wavelength_id", "coefficient", "family", "inverted")


@validate_call
def fuse_focal_stack(
    *,
    zarr_url: str,
    suffix: str = "fused",
    method: Literal["network", "tenengrad", "laplacian"] = "network",
    focus_from: str = "auto",
    device: str = "auto",
    keep_maps: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fuse a focal stack into one sharp image with its decision mask, height and confidence.

    Each image is normalised by itself; `hybridfusion batch` can treat all images of a plate alike.

    Args:
        zarr_url: Path of the image, which lies in a well of a plate (standard argument of Fractal tasks).
        suffix: Stands after the name of the image; letters and digits.
        method: How slices are compared: with the neural network, or with a classical measure of focus.
        focus_from: Which channels decide: `auto`, `each`, `joint`, or the name of one.
        device: Where to compute: `auto`, `cpu`, `cuda`, or `openvino`.
        keep_maps: Whether height and confidence are kept, as an image whose name also ends in `maps`.
        overwrite: Whether an earlier result is replaced.

    Returns:
        What changed in the list of images.
    """
    source = Path(zarr_url)
    if not suffix.isalnum() or not suffix.isascii():
        raise UserInputError(
            f"The suffix is {suffix!r}; expected letters and digits, since names of images in a well have no others."
        )
    target = source.with_name(source.name + suffix)
    maps = target.with_name(f"{target.name}maps")
    if target.exists() and not overwrite:
        raise UserInputError(f"{target} exists already; expected a new name. Choose another suffix, or overwrite it.")
    ngff: Ngff = "0.5" if (source / "zarr.json").is_file() else "0.4"
    # Beside the image, so that it only has to be renamed; its name is hidden from those who list the well.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=source.parent) as scratch:
        built = Path(scratch, f"{target.name}.ome.zarr")
        built_maps = built.with_name(f"{target.name}.maps.ome.zarr")
        fuse_to(zarr_url, built, ngff=ngff, method=method, focus_from=focus_from, device=device)
        _keep_channels(source, built)
        if (source / "tables").is_dir():
            problem = copy_tables(source / "tables", built / "tables", Path(scratch, "tables"), ngff)
            if problem:
                raise UserInputError(problem)
        if keep_maps and built_maps.is_dir():
            _moved(built_maps, maps, Path(scratch))
        _moved(built, target, Path(scratch))
    _list(source, target.name)
    open_ome_zarr_container(str(target), mode="r").get_image()  # what the next task will do
    return {"image_list_updates": [{"zarr_url": str(target), "origin": zarr_url, "types": {"is_3D": False}}]}


def _keep_channels(source: Path, built: Path) -> None:
    """Give the fused image what its input says of its channels: Fractal chooses them by `wavelength_id`."""
    known = _channels(zarr.open_group(source, mode="r").attrs.asdict())
    group = zarr.open_group(built, mode="r+")
    attributes = group.attrs.asdict()
    written = _channels(attributes)
    if len(known) == len(written):
        for channel, before in zip(written, known, strict=True):
            channel.update({name: before[name] for name in _KEPT if name in before})
        group.attrs.update(json.loads(json.dumps(attributes)))


def _channels(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(attributes.get("ome", attributes).get("omero", {}).get("channels", ()))


def _moved(built: Path, target: Path, scratch: Path) -> None:
    """Put a whole image to its place; what stood there goes with the scratch."""
    if target.exists():
        target.rename(scratch / f"old-{target.name}")
    shutil.move(built, target)


def _list(source: Path, name: str) -> None:
    """List the image in its well, in the acquisition of its source; others may do the same at this moment."""
    well = open_ome_zarr_well(str(source.parent), cache=False, mode="r+")
    if name not in well.paths():
        well.atomic_add_image(name, acquisition_id=well.get_image_acquisition_id(source.name), strict=False)


if __name__ == "__main__":
    from fractal_task_tools.task_wrapper import run_fractal_task

    run_fractal_task(task_function=fuse_focal_stack)
