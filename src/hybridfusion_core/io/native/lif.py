"""Leica LIF by the library `liffile`: each image of the file is a scene, and each position of a tile scan one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from liffile import LifFile
from numpy.typing import NDArray

from hybridfusion_core.io.description import RGB_CHANNELS, Description
from hybridfusion_core.io.native.scene import CONFOCAL, MULTIPHOTON, TRANSMITTED, WIDEFIELD, Scene
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import UNITS_UM, Axis, Channel

_DIM_IDS = {"X": "1", "Y": "2", "Z": "3", "T": "4"}
_SETTINGS = "./Data/Image/Attachment[@Name='HardwareSetting']"
# Matrix scans call their images …/B/2/R1 or …/B2/Position 1.
_WELL = re.compile(r"(?:^|/)([A-P])/?(\d{1,2})/[^/]*$")
_LOOKUP = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF", "Cyan": "00FFFF", "Magenta": "FF00FF"}
_LOOKUP |= {"Yellow": "FFFF00", "Gray": "FFFFFF", "Grey": "FFFFFF"}
_TRANSMITTED = re.compile("TLD|PMT Trans|Trans(?:mitted|mission)|BF|TL-|Bright|Phase|DIC", re.IGNORECASE)


@dataclass(frozen=True)
class _Place:
    """Which image of the library a scene is, which mosaic position of it, and whether C or S are its channels."""

    image: Any
    mosaic: int | None


class LifReader:
    """A LIF file.

    Args:
        path: of the file.
    """

    companions: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        _refuse_entities(path)
        self._file = LifFile(path)
        try:
            found = [each for image in self._file.images for each in _of_image(image, path.stat().st_size)]
        except BaseException:
            self.close()
            raise
        self._places = [place for place, _ in found]
        self.scenes: tuple[Scene, ...] = tuple(scene for _, scene in found)

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice; see `NativeReader`."""
        place = self._places[scene]
        sizes = place.image.sizes
        at = {"T": t, "Z": z} | ({} if place.mosaic is None else {"M": place.mosaic})
        at = {letter: index for letter, index in at.items() if letter in sizes}
        if self.scenes[scene].rgb:
            frame = place.image.frame(**at)  # Y X S
            return np.array(np.moveaxis(frame, -1, 0)[list(channels), y, x])
        several = "C" in sizes
        return np.stack([place.image.frame(**at, **({"C": c} if several else {}))[y, x] for c in channels])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _refuse_entities(path: Path) -> None:
    """Look at the XML before the library does, which parses it with entities."""
    with path.open("rb") as file:
        head = file.read(13)
        length = int.from_bytes(head[9:13], "little") * 2
        text = file.read(min(length, path.stat().st_size)).decode("utf-16-le", "replace")
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ValueError("its XML declares a DOCTYPE or ENTITY")


def _of_image(image: Any, file_size: int) -> Iterator[tuple[_Place, Scene]]:
    """Yield an image, or each position of a tile scan."""
    try:
        sizes, frame_dims, problem = dict(image.sizes), image.frames.frame_dims, ""
        dtype = image.dtype.name
        problem = _problem(sizes, frame_dims, image, file_size)
    except (ArithmeticError, AssertionError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        sizes, dtype, problem = {}, "uint16", f"its description cannot be understood ({error}); expected a plain image"
    rgb = sizes.get("S") == 3
    shape = (
        sizes.get("T", 1),
        3 if rgb else sizes.get("C", 1),
        sizes.get("Z", 1),
        sizes.get("Y", 1),
        sizes.get("X", 1),
    )
    about, objective = _about(image.xml_element, image.path, shape[1], rgb=rgb)
    well = _WELL.search(image.path)
    scene = Scene(
        about=about,
        shape=shape,
        dtype=dtype,
        rgb=rgb,
        objective=objective,
        decode_unit=(1, 3 if rgb else 1, 1, *shape[3:]),
        well=None if well is None else well[1] + well[2],
        problem=problem,
    )
    mosaic = sizes.get("M", 0)
    if problem or not mosaic:
        yield _Place(image, None), scene
        return
    tiles = image.tilescan
    for index in range(mosaic):
        name = f"{image.path} position {index + 1}"
        at = None if tiles is None or index >= len(tiles) else tiles[index]
        yield (
            _Place(image, index),
            # Leica's stage is in metres.
            replace(
                scene,
                about=replace(about, name=name),
                position_um=None if at is None else (float(at["pos_y"]) * 1e6, float(at["pos_x"]) * 1e6),
            ),
        )


def _problem(sizes: dict[str, int], frame_dims: Sequence[str], image: Any, file_size: int) -> str:
    """Say why an image is no stack, or nothing."""
    if image.is_flim:
        return "it is a lifetime image; expected intensities"
    if sizes.get("S", 3) != 3 or ("S" in sizes and "C" in sizes):
        return f"its samples are {sizes}; expected one colour image, or grey channels"
    if tuple(frame_dims) not in (("Y", "X"), ("Y", "X", "S")):
        return f"its planes are {'×'.join(frame_dims)}; expected Y×X: scans along X and Z have no focal stack"
    other = [letter for letter, length in sizes.items() if letter not in "TCZYXSM" and length > 1]
    if other:
        return f"it has an axis {other[0]!r} (wavelengths, rotation or loops); expected time, z and channels only"
    block = image.memory_block
    if math.prod(sizes.values()) > file_size or block.offset + block.size > file_size:
        return f"its pixels need more than the {file_size} bytes of the file; expected all of them. Copy it again"
    return ""


def _about(element: Any, name: str, count: int, *, rgb: bool) -> tuple[Description, str | None]:
    """Return the description of an image, and its objective."""
    settings = element.find(_SETTINGS)
    hardware = [] if settings is None else [each for each in settings if "NumericalAperture" in each.attrib]
    lens = hardware[0] if hardware else None
    steps = {letter: _step(element, letter) for letter in _DIM_IDS}
    z, down = steps["Z"]
    slices = _length(element, "Z")
    positions = None
    if down and z.step_um is not None and 1 < slices <= 1_000_000:
        positions = tuple(-z.step_um * index for index in range(slices))
    about = Description(
        name=name,
        t=steps["T"][0],
        z=z,
        y=steps["Y"][0],
        x=steps["X"][0],
        channels=_channels(element, settings, count, rgb=rgb),
        z_positions_um=positions,
        na=None if lens is None else number(lens.get("NumericalAperture")),
    )
    return about, None if lens is None else (lens.get("ObjectiveName") or None)


def _dimension(element: Any, letter: str) -> Any:
    path = f"./Data/Image/ImageDescription/Dimensions/DimensionDescription[@DimID='{_DIM_IDS[letter]}']"
    return element.find(path)


def _length(element: Any, letter: str) -> int:
    found = _dimension(element, letter)
    return int(number(None if found is None else found.get("NumberOfElements")) or 1)


def _step(element: Any, letter: str) -> tuple[Axis, bool]:
    """Return the step along an axis, and whether it runs backwards; Leica states the whole length, first to last."""
    found = _dimension(element, letter)
    steps = _length(element, letter) - 1
    length = None if found is None else number(found.get("Length"))
    unit = None if found is None else ngff_unit(found.get("Unit"))
    if not length or steps < 1 or unit is None:
        return Axis(), False
    step = length / steps
    if unit in UNITS_UM:
        return axis(abs(step) * UNITS_UM[unit], "micrometer"), step < 0
    return axis(abs(step), unit), step < 0


def _channels(element: Any, settings: Any, count: int, *, rgb: bool) -> tuple[Channel, ...]:
    stated = element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    lights = list(_lights(settings))
    if rgb:
        _, transmitted, modality = lights[0] if lights else ("", None, None)
        return tuple(Channel(each.name, each.color, transmitted, modality=modality) for each in RGB_CHANNELS)
    if len(stated) != count:
        return ()
    # The hardware says more where it lists as many channels as there are.
    known = lights if len(lights) == count else [("", None, None)] * count
    return tuple(_channel(each, *light, index) for index, (each, light) in enumerate(zip(stated, known, strict=True)))


def _channel(stated: Any, name: str, transmitted: bool | None, modality: str | None, index: int) -> Channel:
    properties = {each.findtext("Key"): each.findtext("Value") for each in stated.iterfind("ChannelProperty")}
    own = properties.get("DyeName") or name or stated.get("NameOfMeasuredQuantity")
    return Channel(own or str(index), _LOOKUP.get(stated.get("LUTName") or ""), transmitted, modality=modality)


def _lights(settings: Any) -> Iterator[tuple[str, bool | None, str | None]]:
    """Yield name, whether light was transmitted, and modality of each active channel of the hardware."""
    if settings is None:
        return
    for each in settings.iterfind("./ATLCameraSettingDefinition/WideFieldChannelConfigurator/WideFieldChannelInfo"):
        method = each.get("ContrastingMethodName") or ""
        name = each.get("UserDefName") or each.get("FluoCubeName") or ""
        if method.upper().startswith("FLUO"):
            yield name, False, WIDEFIELD
        elif method:
            yield name or method, bool(_TRANSMITTED.search(method)) or None, TRANSMITTED
        else:
            yield name, None, None
    confocal = settings.find("./ATLConfocalSettingDefinition")
    for each in [] if confocal is None else confocal.iterfind("./DetectorList/Detector[@IsActive='1']"):
        name = each.get("DyeName") or each.get("Name") or ""
        if _TRANSMITTED.search(each.get("Name") or ""):
            yield each.get("Name") or "", True, TRANSMITTED
        else:
            yield name, False, MULTIPHOTON if each.get("ScanType") == "External" else CONFOCAL
