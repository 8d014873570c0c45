"""OME-Zarr plates, 0.4 and 0.5: the JSON of plate, wells and images; no array is opened.

zarr's own opening takes milliseconds for a group, and a plate of 1536 wells has ten thousand of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.io.description import Description
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.units import number
from hybridfusion_core.io.zarr.ngff_reading import describe, described_axes, is_plain
from hybridfusion_core.io.zarr.source import METADATA_FILES, ZarrSource, source_of
from hybridfusion_core.plates.plate import Acquisition, Defect, Field, Frame, Image, Imaging, Plate, Well
from hybridfusion_core.plates.well_names import plate_size, well_index
from hybridfusion_core.stack import Channel

_MOST_TIMES = 100_000
_DTYPES = {"u": "uint", "i": "int", "f": "float"}


@dataclass(frozen=True)
class _Found:
    """One image as its metadata describe it: lengths by axis letter, or what is wrong with it."""

    about: Description
    lengths: Mapping[str, int] | None = None
    dtype: str | None = None
    position_um: tuple[float, float] | None = None
    problem: str = ""


def read_ome_zarr_plate(path: Path | str) -> Plate | None:
    """Describe an OME-Zarr plate.

    Args:
        path: of its folder, or its URL.

    Returns:
        The plate, or None if the zarr is something else.

    Raises:
        UserInputError: it may not be read.
        StoredDataError: the metadata of the plate are damaged; damage in wells and images is theirs alone.
    """
    source = source_of(path)
    with guarded(
        f"{source.name}: the metadata of the plate cannot be understood",
        "those of an OME-Zarr plate. They are damaged: copy or write the plate again.",
    ):
        plate = _attributes(source).get("plate")
        return _read(source, str(path), plate) if isinstance(plate, Mapping) else None


def _read(source: ZarrSource, path: str, plate: Mapping[str, Any]) -> Plate:
    names = {kind: [str(each["name"]) for each in plate.get(kind, ())] for kind in ("rows", "columns")}
    wells, all_found = [], []
    entries = {str(each["path"]): each for each in plate["wells"]}
    source.expect(f"{well}/{name}" for well in filter(source.holds, entries) for name in METADATA_FILES[:2])
    images = {well: _images(source, well) for well in entries}
    paths = [f"{well}/{each['path']}" for well, (listed, _) in images.items() for each in listed]
    # The first level is mostly called so; where it is not, its metadata are read when they are needed.
    source.expect(
        f"{image}/{name}"
        for image in filter(source.holds, paths)
        for name in (*METADATA_FILES[:2], "0/zarr.json", "0/.zarray")
    )
    for inside, entry in entries.items():
        well, found = _well(source, entry, names, *images[inside])
        wells.append(well)
        all_found += found
    wells.sort(key=lambda well: (well.row_index, well.column_index))
    rows, columns = plate_size(
        max([len(names["rows"])] + [well.row_index + 1 for well in wells]),
        max([len(names["columns"])] + [well.column_index + 1 for well in wells]),
    )
    acquisitions = [each for each in plate.get("acquisitions") or () if isinstance(each.get("id"), int)]
    return Plate(
        folder=path,
        layout="ome-zarr",
        name=str(plate.get("name") or source.name.removesuffix(".zarr").removesuffix(".ome")),
        wells=tuple(wells),
        imaging=_imaging([found for found in all_found if found.lengths]),
        rows=rows,
        columns=columns,
        acquisitions=tuple(Acquisition(each["id"], str(each.get("name") or "")) for each in acquisitions),
        metadata=(path,),
        warnings=_odd_channels(all_found),
    )


def _well(
    source: ZarrSource,
    entry: Mapping[str, Any],
    names: Mapping[str, Sequence[str]],
    images: Sequence[Mapping[str, Any]],
    problem: str,
) -> tuple[Well, list[_Found]]:
    inside = str(entry["path"])
    row, column = (
        _at(names[kind], entry.get(index), part)
        for kind, index, part in zip(
            ("rows", "columns"), ("rowIndex", "columnIndex"), (*inside.split("/"), "?", "?")[:2], strict=True
        )
    )
    at = well_index(f"{row}{column}") or (_index(entry.get("rowIndex")), _index(entry.get("columnIndex")))
    if problem:
        frame = Frame("0", (), defects=(Defect("missing", problem),))
        return Well(row, column, *at, (Field("0", (frame,)),)), []
    fields, found = [], []
    for image in images:
        name = str(image["path"])
        one = _image(source, f"{inside}/{name}")
        found.append(one)
        acquisition = image.get("acquisition")
        fields.append(
            Field(
                name,
                _frames(one, f"{inside}/{name}"),
                one.position_um,
                acquisition if isinstance(acquisition, int) else None,
            )
        )
    return Well(row, column, *at, tuple(fields)), found


def _at(names: Sequence[str], index: Any, otherwise: str) -> str:
    return names[index] if isinstance(index, int) and 0 <= index < len(names) else otherwise


def _index(stored: Any) -> int:
    return stored if isinstance(stored, int) and 0 <= stored < 1000 else 0


def _images(source: ZarrSource, inside: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return the images that a well lists, or what is wrong with it."""
    if not source.holds(inside):
        return [], _outside(inside)
    try:
        with guarded(f"The well {inside!r}: its metadata cannot be read", _CURE):
            listed = _attributes(source, inside)["well"]["images"]
            # The same path twice is one image.
            return list({str(each["path"]): each for each in listed}.values()), ""
    except HybridFusionError as error:
        return [], str(error)


def _image(source: ZarrSource, inside: str) -> _Found:
    if not source.holds(inside):
        return _Found(Description(), problem=_outside(inside))
    try:
        with guarded(f"The image {inside!r}: its metadata cannot be read", _CURE):
            return _described(source, inside)
    except HybridFusionError as error:
        return _Found(Description(), problem=str(error))


def _described(source: ZarrSource, name: str) -> _Found:
    attributes = _attributes(source, name)
    entry = attributes["multiscales"][0]
    level = str(entry["datasets"][0]["path"])
    if not source.holds(f"{name}/{level}") or not is_plain(level):
        raise StoredDataError(_outside(f"{name}/{level}"))
    shape, dtype = _array(source, f"{name}/{level}")
    axes = described_axes(entry, len(shape), name)
    lengths = {letter: length for letter, length in zip(axes, shape, strict=True) if letter in "TCZYX"}
    if min(shape) < 1 or lengths.get("T", 1) > _MOST_TIMES:
        raise StoredDataError(
            f"The image {name!r} has shape {tuple(shape)}; expected at least one pixel and at most {_MOST_TIMES} time "
            "points. The metadata are damaged: copy or write the image again."
        )
    about = describe(entry, attributes, name)
    return _Found(about, lengths, dtype, _position(entry, about))


def _array(source: ZarrSource, inside: str) -> tuple[list[int], str]:
    stored = _json(source, f"{inside}/zarr.json")
    if stored is not None:
        return [int(length) for length in stored["shape"]], str(stored["data_type"])
    stored = _json(source, f"{inside}/.zarray")
    if stored is None:
        raise FileNotFoundError(f"no array in {inside!r}")
    code = str(stored["dtype"])
    return [int(length) for length in stored["shape"]], f"{_DTYPES.get(code[1], code[1])}{8 * int(code[2:])}"


def _position(entry: Mapping[str, Any], about: Description) -> tuple[float, float] | None:
    """Return the translation along Y and X in µm, if there is one and its unit is a length."""
    names = [str(each.get("name")).lower() for each in entry.get("axes", ()) if isinstance(each, Mapping)]
    moves = [
        each.get("translation")
        for where in (entry["datasets"][0], entry)
        for each in where.get("coordinateTransformations") or ()
        if each.get("type") == "translation"
    ]
    scale = {"y": about.y, "x": about.x}
    if not moves or not {"y", "x"} <= set(names) or any(each.step_um is None for each in scale.values()):
        return None
    y, x = (
        sum(float(number(move[names.index(letter)]) or 0.0) for move in moves)
        * float(scale[letter].step_um or 0.0)
        / scale[letter].step
        for letter in "yx"
    )
    return y, x


def _frames(found: _Found, inside: str) -> tuple[Frame, ...]:
    if found.lengths is None:
        return (Frame("0", (), image=Image(inside), defects=(Defect("missing", found.problem),)),)
    slices = (found.lengths.get("Z", 1),) * found.lengths.get("C", 1)
    return tuple(Frame(str(t), slices, image=Image(inside, None, t)) for t in range(found.lengths.get("T", 1)))


def _imaging(found: Sequence[_Found]) -> Imaging:
    if not found:
        return Imaging(())
    first = found[0]
    lengths, about = first.lengths or {}, first.about
    count = lengths.get("C", 1)
    channels = about.channels if len(about.channels) == count else tuple(Channel(str(c)) for c in range(count))
    return Imaging(channels, (lengths["Y"], lengths["X"]), first.dtype, t=about.t, z=about.z, y=about.y, x=about.x)


def _odd_channels(found: Sequence[_Found]) -> tuple[str, ...]:
    sound = [each for each in found if each.lengths]
    named = [tuple(channel.name for channel in each.about.channels) for each in sound]
    odd = sum(each != named[0] for each in named)
    return (f"{odd} images have other channels than the first one, {', '.join(named[0])}.",) if odd else ()


def _attributes(source: ZarrSource, inside: str = "") -> Mapping[str, Any]:
    """Return what the metadata of a group say by OME-NGFF, or nothing."""
    before = f"{inside}/" if inside else ""
    stored = _json(source, f"{before}zarr.json")
    found = stored.get("attributes") if isinstance(stored, Mapping) else _json(source, f"{before}.zattrs")
    inner = found.get("ome") if isinstance(found, Mapping) else None
    result = inner if isinstance(inner, Mapping) else found
    return result if isinstance(result, Mapping) else {}


def _json(source: ZarrSource, inside: str) -> Any:
    content = source.read(inside)
    return None if content is None else json.loads(content)


def _outside(inside: str) -> str:
    return (
        f"The path {inside!r} in the metadata leads out of the store; expected one inside it. The store is damaged or "
        "hostile: do not open it, or write the plate again."
    )


_CURE = "a whole OME-Zarr group. It is missing, damaged or was copied in part: copy or write the plate again."
