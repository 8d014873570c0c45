"""Open stacks and fused images in napari, with everything that the file says about its pixels.

napari's own readers drop scale, units, axis and channel names. A fused image brings its decision and its
maps along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.io.native.open import native_scenes
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.palette import slice_colors
from hybridfusion_core.io.suffixes import NATIVE_SUFFIXES, PICTURE_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIXES, has_suffix
from hybridfusion_core.io.verify import stored_provenance
from hybridfusion_core.stack import Stack
from napari_hybridfusion.layers.depth import Depth
from napari_hybridfusion.layers.pyramids import image_attributes, is_plate, plane_levels, tiff_levels, zarr_levels
from napari_hybridfusion.layers.results import THIN, product_title
from napari_hybridfusion.layers.sources import Frame
from napari_hybridfusion.layers.stacks import LayerData, decision_layers, map_layers, shown_unit, stack_layers

_MOST_SCENES = 8  # of a microscope's file that are opened side by side
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

PathOrPaths = str | Sequence[str]


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """Return what reads a path: an OME-Zarr image or plate, a TIFF, a folder of slices, or a microscope's file.

    Args:
        path: a file or folder; a list stands for the slices of one stack, or for several OME-Zarr images or
            microscopes' files.

    Returns:
        A reader; None for everything else.
    """
    paths = _paths(path)
    kinds = (_is_zarr_image, _is_tiff, _is_native)
    if len(paths) == 1 and (_is_zarr_plate(paths[0]) or _is_slice_folder(paths[0])):
        return read
    return read if paths and any(all(is_kind(each) for each in paths) for is_kind in kinds) else None


def read(path: PathOrPaths) -> list[LayerData]:
    """Read what `get_reader` accepted; pixels are left on disk.

    Returns:
        The layers of the image. For a fused image also its decision and its maps, hidden.

    Raises:
        UserInputError: the file leaves open what it means.
        StoredDataError: the file is damaged.
    """
    paths = _paths(path)
    if _is_native(paths[0]):
        return [layer for each in paths for layer in _read_native(each)]
    if _is_zarr_plate(paths[0]):
        return _read_first_field(paths[0])
    if (len(paths) > 1 and not paths[0].is_dir()) or _is_slice_folder(paths[0]):
        stack = open_stack(paths if len(paths) > 1 else paths[0])
        _show_warnings(stack)
        return stack_layers(stack, plane_levels(stack))
    return [layer for each in paths for layer in _read_with_companions(each)]


def _read_first_field(path: Path) -> list[LayerData]:
    """Read one field of a plate, and say where all of them can be seen."""
    from hybridfusion_core.plates.open import open_plate  # noqa: PLC0415 - the reader is asked about every path
    from napari_hybridfusion.files.fields import field_layers  # noqa: PLC0415 - it reads through this module

    plate = open_plate(path)
    first = next(iter(plate.fields()), None)
    if first is None:
        raise StoredDataError(f"{path.name} is a plate without any field. Open another one.")
    _show(
        f"{path.name} is a plate of {len(plate.wells)} wells. Its first field is opened, {first.name}; "
        "Plugins › HybridFusion › Fuse plate shows and fuses all of them."
    )
    return field_layers(first)


def _read_native(path: Path) -> list[LayerData]:
    """Read all images of a microscope's file, or the first ones of many; all but the first are hidden."""
    count = len(native_scenes(path))
    if count > _MOST_SCENES:
        _show(
            f"{path.name} holds {count} images; the first {_MOST_SCENES} are opened. All of them can be fused with "
            "Fuse plate, which takes the file as it takes a folder."
        )
    layers: list[LayerData] = []
    for index in range(min(count, _MOST_SCENES)):
        try:
            stack = open_stack(path, series=index)
        except HybridFusionError as error:
            if count == 1:
                raise
            _show(f"{error}")
            continue
        _show_warnings(stack)
        hidden = {"visible": False} if layers else {}
        layers += [(data, {**about, **hidden}, kind) for data, about, kind in stack_layers(stack, plane_levels(stack))]
    return layers


def _read_with_companions(path: Path) -> list[LayerData]:
    if _is_decision(path):
        return _read_decision(path)
    if _role(path) == "maps":
        return _read_maps(path)
    stack, levels = _opened(path)
    _show_warnings(stack)
    layers, colors = stack_layers(stack, levels), 1
    fused = len(layers)
    for companion, read_companion in zip(_companions(path), (_read_maps, _read_decision), strict=True):
        if _exists(companion):
            try:
                found = read_companion(companion)
            except HybridFusionError as error:
                _show(f"{companion.name} is left out: {error}")
                continue
            layers += found
            if read_companion is _read_decision:
                colors = len(found[0][1]["colormap"].colors) - 1  # one for each slice, and one for none
    # What has many slices is a stack, whatever program wrote it.
    provenance = stored_provenance(path) if stack.shape[2] == 1 else {}
    depth = Depth.recorded(provenance, stack.z, otherwise=colors)
    # Without anything that explains it, or a record, it is a stack or an image like any other.
    if len(layers) == fused and depth.slices == 1:
        return layers
    _attend()
    prefix = "corrected " if "corrections" in provenance else ""
    found = _belonging_together([_covering(layer, depth) for layer in layers], fused, depth, prefix)
    for _, about, _ in found if provenance else ():
        about["metadata"]["hybridfusion"]["provenance"] = provenance
    return found


def _belonging_together(layers: list[LayerData], fused: int, depth: Depth, prefix: str) -> list[LayerData]:
    """Give layers the metadata and the names of a result that was just fused: "DAPI fused", "DAPI + membrane decision".

    Args:
        layers: as their files name them: channels, and products with the channel that decided.
        fused: how many of them are fused channels; they come first.
        depth: of the stack.
        prefix: stands before all names.
    """
    kinds = [about["name"].split(" ")[0] for _, about, _ in layers[fused:]]
    explaining = [(kind, kinds[:index].count(kind)) for index, kind in enumerate(kinds)]
    several = any(decision for _, decision in explaining)
    products = [("fused", index if several else 0) for index in range(fused)] + explaining
    own = [re.sub(r"[_ ]fused$", "", about["name"]) for _, about, _ in layers[:fused]]
    token = uuid4().hex  # a file that is opened twice is two results
    found = []
    for index, (layer, (product, decision)) in enumerate(zip(layers, products, strict=True)):
        of = own[index] if index < fused else _decider(layer[1]["name"], decision if several else None, own)
        named = (layer[0], {**layer[1], "name": f"{prefix}{of} {product_title(product)}"}, layer[2])
        found.append(_belonging(named, {"product": product, "decision": decision, "result": token, "depth": depth}))
    return found


def _decider(name: str, decision: int | None, own: Sequence[str]) -> str:
    """Return which channels a map or a decision speaks of: the one that its file names, or one of several, or all."""
    channel = name.partition(" ")[2]
    if channel and not channel.isdigit():  # labels have no names, and their channels only numbers
        return channel
    return " + ".join(own) if decision is None or decision >= len(own) else own[decision]


def _belonging(layer: LayerData, more: dict[str, Any]) -> LayerData:
    data, about, kind = layer
    known = about.get("metadata", {})
    ours = {**known.get("hybridfusion", {}), "axes": "".join(about["axis_labels"]).upper(), **more}
    return data, {**about, "metadata": {**known, "hybridfusion": ours}}, kind


def _covering(layer: LayerData, depth: Depth) -> LayerData:
    """Let a fused time series, which keeps its Z axis, lie on all the slices that it was made from."""
    data, about, kind = layer
    shape = (data[0] if about.get("multiscale") else data).shape[:4]
    if about["axis_labels"] != tuple("tzyx") or shape[1] > 1:
        return layer
    steps = (about["scale"][0], depth.axis.step, *about["scale"][2:])
    units = (about["units"][0], shown_unit(depth.axis), *about["units"][2:])
    frame = Frame("TZYX", (shape[0], depth.slices, *shape[2:]), steps, (0.0,) * 4, {"units": units})
    return data, {**about, **frame.place(shape), **THIN}, kind


def _read_maps(path: Path) -> list[LayerData]:
    return map_layers(*_opened(path))


def _read_decision(path: Path) -> list[LayerData]:
    stack, levels = _opened(path)
    colors = _label_colors(path)
    if colors is None:
        last = int(levels[-1].max().compute())  # type: ignore[no-untyped-call]
        # One slice at least, also where nothing is in focus: no colormap has a single colour.
        colors = np.array(slice_colors(max(last, 1)), dtype=np.float64) / 255
    return decision_layers(stack, levels, colors)


def _opened(path: Path) -> tuple[Stack, list[da.Array]]:
    stack = open_stack(path)
    return stack, (zarr_levels if path.is_dir() else tiff_levels)(path, stack)


def _label_colors(path: Path) -> NDArray[np.float64] | None:
    """Return the colours that labels carry, RGBA in [0, 1] in the order of their values; None without any."""
    if not path.is_dir():
        return None
    stored = image_attributes(path).get("image-label", {}).get("colors")
    if not stored:
        return None
    try:
        by_value = {int(each["label-value"]): each["rgba"] for each in stored}
        colors = [by_value.get(value, (0, 0, 0, 0)) for value in range(max(by_value) + 1)]
        return np.array(colors, dtype=np.float64).reshape(-1, 4) / 255
    except (LookupError, TypeError, ValueError) as error:
        raise StoredDataError(
            f"{path.name}: the colours of the labels are damaged ({error}); expected a value and four numbers for "
            "each. Fuse the stack again."
        ) from error


def _companions(path: Path) -> tuple[Path, Path]:
    """Return where the maps and the decision of a fused image stand, if there are any."""
    plate = path.parents[2] if len(path.parents) > 2 else path
    if path.is_dir() and plate.name.lower().endswith(
        ZARR_SUFFIXES
    ):  # a field of a plate: its maps are one of another plate
        stem, suffix = _split(plate)
        maps = plate.with_name(f"{stem}.maps{suffix}").joinpath(*path.parts[-3:])
        return maps, path / "labels" / "decision"
    stem, suffix = _split(path)
    maps = path.with_name(f"{stem}.maps{suffix}")
    return maps, path / "labels" / "decision" if path.is_dir() else path.with_name(f"{stem}.decision{suffix}")


def _exists(path: Path) -> bool:
    return bool(image_attributes(path)) if path.is_dir() else path.is_file()


def _is_decision(path: Path) -> bool:
    return _role(path) == "decision" or path.parts[-2:] == ("labels", "decision")


def _role(path: Path) -> str:
    """Return "maps" or "decision" for `X.maps.ome.zarr` and the like, else something else."""
    return _split(path)[0].rpartition(".")[2]


def _split(path: Path) -> tuple[str, str]:
    for suffix in (*ZARR_SUFFIXES, *TIFF_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ""


def _is_zarr_plate(path: Path) -> bool:
    return path.is_dir() and is_plate(path)


def _is_slice_folder(path: Path) -> bool:
    """Say whether a folder holds images, two or more, and no zarr."""
    if not path.is_dir() or has_suffix(path, ZARR_SUFFIXES):
        return False
    try:
        found = (each for each in path.iterdir() if has_suffix(each, PICTURE_SUFFIXES) or _is_tiff(each))
        return len(list(islice(found, 2))) == 2
    except OSError:
        return False


def _is_zarr_image(path: Path) -> bool:
    return path.is_dir() and bool(image_attributes(path))


def _is_tiff(path: Path) -> bool:
    if not path.name.lower().endswith(TIFF_SUFFIXES):
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) in _TIFF_SIGNATURES
    except OSError:
        return False


def _is_native(path: Path) -> bool:
    return has_suffix(path, NATIVE_SUFFIXES) and path.is_file()


def _paths(path: PathOrPaths) -> list[Path]:
    return [Path(each) for each in ([path] if isinstance(path, (str, Path)) else path)]


def _show_warnings(stack: Stack) -> None:
    for line in stack.warnings:
        _show(f"{stack.name}: {line}")


def _attend() -> None:
    """Let the pointer read the result, if there is a window."""
    from napari import current_viewer  # noqa: PLC0415  (as below)

    from napari_hybridfusion.result.probe import attend  # noqa: PLC0415  (as below)

    if (viewer := current_viewer()) is not None:
        attend(viewer)


def _show(message: str) -> None:
    from napari.utils.notifications import show_warning  # noqa: PLC0415  (slow, and seldom needed)

    show_warning(message)
