"""Read a whole OME-Zarr image or plate, from its metadata to its last pixel, and name what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaozarrs
import zarr
from zarr.storage import LocalStore

from hybridfusion_core.io.level_check import Level, check_levels, first_line
from hybridfusion_core.io.pyramid import Method
from hybridfusion_core.io.zarr.arrays import files_of
from hybridfusion_core.io.zarr.image import is_zarr


def check_zarr(path: Path) -> Iterator[str]:
    """Yield what is wrong with the metadata and the pixels of an image or a plate, labels included.

    Args:
        path: of the store.
    """
    if not is_zarr(path):
        yield f"{path.name} has no zarr metadata; expected zarr.json or .zgroup"
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the standard only recommends
            yaozarrs.validate_zarr_store(str(path))
    except Exception as error:  # whatever damaged JSON makes of a validator
        yield f"{path.name} has metadata that are no valid OME-Zarr ({first_line(error)})"
    try:
        fields = field_paths(path)
    except Exception as error:  # damaged or hostile metadata
        yield f"{path.name} is a plate whose wells cannot be understood ({type(error).__name__}: {first_line(error)})"
        return
    for image in [path] if fields is None else [path / field for field in fields]:
        name = image.relative_to(path.parent).as_posix()
        yield from _check_image(image, name)
        for folder in label_folders(image):
            yield from _check_image(folder, f"{name}/labels/{folder.name}")


def label_folders(image: Path) -> list[Path]:
    """Return the folders of the labels of an image."""
    labels = image / "labels"
    return sorted(each for each in labels.iterdir() if each.is_dir()) if labels.is_dir() else []


def field_paths(path: Path) -> list[str] | None:
    """Return the paths of all fields of a plate; None if this is no plate.

    Raises:
        Exception: of any kind, when its metadata are damaged.
    """
    try:
        plate = group_attributes(path).get("plate")
    except Exception:  # no zarr at all, which is found elsewhere
        return None
    if plate is None:
        return None
    wells = [str(well["path"]) for well in plate["wells"]]
    return [
        _inside(path, f"{well}/{image['path']}").relative_to(path.resolve()).as_posix()
        for well in wells
        for image in group_attributes(_inside(path, well))["well"]["images"]
    ]


@dataclass(frozen=True)
class _Image:
    """An image as its metadata describe it, full resolution first."""

    axes: str
    paths: list[str]
    arrays: list[Any]
    scales: list[list[float]]
    method: Method

    @classmethod
    def of(cls, folder: Path) -> _Image:
        """Open an image.

        Raises:
            Exception: of any kind, when its metadata are damaged.
        """
        entry = group_attributes(folder)["multiscales"][0]
        paths = [str(dataset["path"]) for dataset in entry["datasets"]]
        return cls(
            "".join(str(axis["name"]).upper() for axis in entry["axes"]),
            paths,
            [zarr.open_array(LocalStore(_inside(folder, each), read_only=True), mode="r") for each in paths],
            [dataset["coordinateTransformations"][0]["scale"] for dataset in entry["datasets"]],
            "nearest" if entry.get("type") == "nearest" else "mean",
        )

    @property
    def fits(self) -> bool:
        """Whether the axes are those of the arrays."""
        return {"Y", "X"} <= set(self.axes) and all(len(array.shape) == len(self.axes) for array in self.arrays)


def _check_image(folder: Path, name: str) -> Iterator[str]:
    try:
        image = _Image.of(folder)
        fits, gaps = image.fits, _missing_times(folder)
    except Exception as error:
        yield f"{name} cannot be opened as an image ({type(error).__name__}: {first_line(error)})"
        return
    if not fits:
        dimensions = [array.ndim for array in image.arrays]
        yield f"{name} has the axes {image.axes}, which its arrays of {dimensions} axes do not fit"
        return
    levels = []
    for part, array in zip(image.paths, image.arrays, strict=True):
        missing = _missing_files(array, folder / part, gaps)
        yield from (f"{name}: {file.relative_to(folder)} is missing or empty" for file in missing)
        lengths = dict(zip(image.axes, array.shards or array.chunks, strict=True))
        levels.append(Level(array, image.axes, (lengths["Y"], lengths["X"]), not missing, _namer(array, part)))
    yield from check_levels(levels, image.method, name)
    yield from _check_scales(levels, image, name)


def _missing_files(array: Any, folder: Path, gaps: frozenset[int]) -> list[Path]:
    # zarr takes an empty file for an absent one, and an absent one for zeros.
    missing = [file for _, file in files_of(array, folder) if not file.is_file() or not file.stat().st_size]
    return [file for file in missing if not _is_missing_time(file.relative_to(folder), gaps)]


def _missing_times(folder: Path) -> frozenset[int]:
    """Return the time points that a batch could not fuse, and has named in the metadata of the image."""
    found = group_attributes(folder).get("hybridfusion", {}).get("missing_times")
    return frozenset(each for each in found if isinstance(each, int)) if isinstance(found, list) else frozenset()


def _is_missing_time(chunk: Path, times: frozenset[int]) -> bool:
    """Say whether the file of a chunk, T C Z Y X, belongs to a time point that has no pixels."""
    first = next((each for each in chunk.parts if each.isdecimal()), "")
    return first.isdecimal() and int(first) in times


def _check_scales(levels: list[Level], image: _Image, name: str) -> Iterator[str]:
    first = levels[0].plane
    for number, (level, scale) in enumerate(zip(levels, image.scales, strict=True)):
        for axis, length, whole in zip("YX", level.plane, first, strict=True):
            step = scale[image.axes.index(axis)] / image.scales[0][image.axes.index(axis)]
            # The last pixel may stand for one that is not there.
            if not abs(step * length - whole) < step:
                yield f"{name}, level {number} has a scale that does not fit its size along {axis}"


def _namer(array: Any, part: str) -> Callable[[tuple[int, ...]], str]:
    lengths = array.shards or array.chunks

    def name_of(position: tuple[int, ...]) -> str:
        index = tuple(start // length for start, length in zip(position, lengths, strict=True))
        return f"{part}/{array.metadata.encode_chunk_key(index)}"

    return name_of


def group_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group, those under "ome" beside them."""
    attributes: dict[str, Any] = dict(zarr.open_group(LocalStore(folder, read_only=True), mode="r").attrs)
    inside = attributes.get("ome")
    return {**attributes, **inside} if isinstance(inside, Mapping) else attributes


def _inside(folder: Path, part: str) -> Path:
    target = (folder / part).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(f"the dataset path {part!r} leads out of the store")
    return target
