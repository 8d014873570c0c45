"""Open an OME-Zarr image (0.4 on zarr 2, 0.5 on zarr 3) as a `Stack`.

Full resolution only; what is read is decoded by region. A store may be hostile: paths that
leave it are refused, and its JSON is believed only after it was looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning
from zarr.storage import LocalStore

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.file_facts import NO_FACTS, FileFacts
from hybridfusion_core.io.region import RegionView, decode_unit
from hybridfusion_core.io.suffixes import image_name
from hybridfusion_core.io.zarr.chunk_files import check_chunks
from hybridfusion_core.io.zarr.guards import bounded
from hybridfusion_core.io.zarr.ngff_reading import describe, described_axes, image_paths
from hybridfusion_core.stack import Stack, check_axes

_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a zarr group or array."""
    return any((path / name).exists() for name in _METADATA_FILES)


def open_ome_zarr(path: Path, facts: FileFacts = NO_FACTS) -> Stack:
    """Open an OME-Zarr image; nothing but its metadata is read.

    Args:
        path: the folder of the image.
        facts: what the user says about it: axes for a zarr array without OME metadata, the image of a store with
            several, what to make of absent chunks.

    Raises:
        UserInputError: it is a plate or a collection of several images, has no OME metadata, or the axes are unclear.
        StoredDataError: the metadata contradict each other or point out of the store.
    """
    damage = "those of an OME-Zarr image. They are damaged: copy or write the image again."
    with guarded(f"{path.name}: the metadata cannot be understood", damage), _without_python_warnings():
        return _open(path, facts)


@contextmanager
def _without_python_warnings() -> Iterator[None]:
    """Keep what zarr says to programmers from users: consolidated metadata, lists of filters, foreign files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=ZarrUserWarning)
        warnings.filterwarnings("ignore", category=UnstableSpecificationWarning)
        yield


def _open(path: Path, facts: FileFacts) -> Stack:
    node = _open_node(path, path.name)
    if isinstance(node, zarr.Array):
        return _bare_array(node, path, facts)
    attributes = ome_attributes(node)
    if "multiscales" not in attributes:
        return _from_collection(node, attributes, path, facts)
    entry = chosen_multiscale(attributes, path.name, facts.series)
    about = describe(entry, attributes, path.name, sizes_known=facts.sizes_known)
    folder, array = _dataset(path, entry)
    letters = axis_letters(facts.axes or described_axes(entry, array.ndim, path.name), array.shape, path.name)
    return _checked(folder, array, letters, path.name, about, facts)


def _bare_array(array: Any, path: Path, facts: FileFacts) -> Stack:
    named = "".join(str(name) for name in getattr(array.metadata, "dimension_names", None) or ()).upper()
    if facts.axes is None and not ({"Y", "X"} <= set(named) <= set("TCZYX") and len(named) == array.ndim):
        raise UserInputError(
            f"{path.name} is a zarr array of shape {array.shape} without OME metadata; expected an OME-Zarr image, "
            "or the axes. Say what they are, for example --axes ZYX (Python: axes=)."
        )
    letters = axis_letters(facts.axes or named, array.shape, path.name)
    return _checked(path, array, letters, path.name, Description(), facts)


def _checked(folder: Path, array: Any, letters: str, name: str, about: Description, facts: FileFacts) -> Stack:
    array, warned = check_chunks(folder, array, letters, name, facts.absent)
    return stack_of(array, letters, name, about, warned)


def stack_of(array: Any, letters: str, name: str, about: Description, warned: Sequence[str]) -> Stack:
    """Make a stack of an array whose axes are named by letters.

    Args:
        array: zarr.Array of full resolution.
        letters: as `axis_letters` gave them.
        name: of the store.
        about: what its metadata say.
        warned: warnings about its chunks.
    """
    view = RegionView(bounded(array), letters, name)
    count = view.shape[view.axes.index("C")] if "C" in view.axes else 1
    channels = about.channels if len(about.channels) == count else ()
    colours = [(channel.name, channel.color) for channel in channels]
    stack = Stack(
        array=view,
        axes=view.axes,
        name=image_name(Path(name)),
        channels=channels,
        t=about.t,
        z=about.z,
        y=about.y,
        x=about.x,
        # OME-Zarr has no mark for colour images; ours carry these names and colours.
        rgb=colours == [(channel.name, channel.color) for channel in RGB_CHANNELS],
        warnings=(*about.warnings, *warned),
    )
    return replace(stack, decode_unit=decode_unit(letters, array.chunks, stack.shape))


def axis_letters(axes: str, shape: Sequence[int], name: str) -> str:
    """Return one letter per stored axis; axes of length 1 that are no TCZYX are not shown."""
    if len(axes) != len(shape):
        raise UserInputError(
            f"{name} has shape {tuple(shape)}; axes {axes!r} name {len(axes)} of {len(shape)} dimensions. "
            "Expected one letter of TCZYX for each. Say for example --axes ZYX (Python: axes=)."
        )
    letters = "".join(
        "-" if letter.upper() not in "TCZYX" and length == 1 else letter.upper()
        for letter, length in zip(axes, shape, strict=True)
    )
    shown = letters.replace("-", "")
    check_axes(shown, len(shown))
    return letters


def chosen_multiscale(attributes: Mapping[str, Any], name: str, series: str | int | None = None) -> Mapping[str, Any]:
    """Return the description of the only image of a group, or of the one that `series` names.

    Raises:
        StoredDataError: there is none.
        UserInputError: there is no such image, or there are several and none was chosen.
    """
    entries = attributes["multiscales"]
    good = isinstance(entries, Sequence) and not isinstance(entries, str) and len(entries) > 0
    if not good or not all(isinstance(entry, Mapping) and entry.get("datasets") for entry in entries):
        raise StoredDataError(
            f"{name}: 'multiscales' lists no datasets; expected at least one image with at least one array. "
            "The metadata are damaged: write the image again."
        )
    listing = ", ".join(f"{index} ({entry.get('name') or 'no name'!r})" for index, entry in enumerate(entries[:20]))
    if series is None:
        if len(entries) == 1:
            return entries[0]  # type: ignore[no-any-return]
        raise UserInputError(
            f"{name} describes {len(entries)} images: {listing}; expected one, or to be told which. "
            "Choose one with --series N or --series NAME (Python: series=)."
        )
    for index, entry in enumerate(entries):
        if str(series) in (str(index), entry.get("name")):
            return entry  # type: ignore[no-any-return]
    raise UserInputError(
        f"{name} has no image {series!r}; expected one of: {listing}. Choose one of these with --series (series=)."
    )


def _dataset(path: Path, entry: Mapping[str, Any]) -> tuple[Path, Any]:
    """Return the folder of the array of full resolution, and the array."""
    first = entry["datasets"][0]
    inside = first.get("path") if isinstance(first, Mapping) else None
    if not isinstance(inside, str) or not inside:
        raise StoredDataError(
            f"{path.name}: the first dataset has no path; expected the name of an array. "
            "The metadata are damaged: write the image again."
        )
    target = (path / inside).resolve()
    # Resolved, so that a link that leads out of the store counts as leaving it.
    if "\\" in inside or ".." in inside.split("/") or not target.is_relative_to(path.resolve()):
        raise StoredDataError(
            f"{path.name}: the dataset path {inside!r} leads out of the store; expected an array inside it. "
            "The store is damaged or hostile: do not open it, or write the image again."
        )
    array = _open_node(target, f"{path.name}/{inside}")
    if not isinstance(array, zarr.Array):
        raise StoredDataError(
            f"{path.name}: {inside!r} is a group; expected an array of pixels. "
            "The metadata are damaged: write the image again."
        )
    return target, array


def _open_node(path: Path, name: str) -> Any:
    for each in _METADATA_FILES:
        if (path / each).exists() and not (path / each).is_file():
            raise StoredDataError(
                f"{name}: {each} is no regular file; expected zarr metadata in it. The store is damaged or hostile: "
                "copy or write it again."
            )
    damage = "a whole zarr array or group. It is damaged or was copied in part: copy or write it again."
    with guarded(f"{name}: cannot be opened as zarr", damage):
        return zarr.open(LocalStore(path, read_only=True), mode="r")


def ome_attributes(group: Any) -> Mapping[str, Any]:
    """Return what the attributes of a group say by OME-NGFF, 0.4 or 0.5."""
    attributes = dict(group.attrs)
    inside = attributes.get("ome")
    return inside if isinstance(inside, Mapping) else attributes


def _from_collection(group: Any, attributes: Mapping[str, Any], path: Path, facts: FileFacts) -> Stack:
    """Open one image of a bioformats2raw collection, or explain what was found."""
    paths = image_paths(attributes, path)
    collection = "bioformats2raw.layout" in attributes or "series" in attributes
    chosen = str(facts.series) if facts.series is not None else paths[0] if len(paths) == 1 else None
    if collection and chosen in paths:
        stack = open_ome_zarr(path / chosen, replace(facts, series=None))
        return stack if len(paths) > 1 else replace(stack, name=image_name(path))
    if paths:
        kind = "a collection of images" if collection else "a well" if "well" in attributes else "a plate"
        listing = ", ".join(paths[:8]) + (", …" if len(paths) > 8 else "")
        found = f"{path.name} is {kind}: {listing}; expected one image. Open one of them, for example "
        cure = {
            "a collection of images": f"with --series {paths[0]} (Python: series=).",
            "a plate": f"{path / paths[0]}, or fuse all of them with `hybridfusion batch`.",
        }
        raise UserInputError(found + cure.get(kind, f"{path / paths[0]}, or fuse its plate with `hybridfusion batch`."))
    arrays = sorted(name for name, _ in group.arrays())
    hint = f"; it holds the arrays {', '.join(arrays[:8])}" if arrays else ""
    raise UserInputError(
        f"{path.name} is a zarr group without 'multiscales'{hint}; expected an OME-Zarr image. "
        "Open an image or array inside it, an array together with --axes (Python: axes=)."
    )
