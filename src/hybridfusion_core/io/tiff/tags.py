"""What ImageJ and plain TIFF files say in their tags: steps, channel colours, alpha, colour tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hybridfusion_core.io.description import Description
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import Axis, Channel

_RESOLUTION_UNITS = {2: "inch", 3: "centimeter"}
# Programs that know no pixel size write a resolution for print, per inch; as a pixel size it would be nonsense.
_PRINT_RESOLUTIONS = (
    72,
    96,
    100,
    120,
    144,
    150,
    180,
    200,
    240,
    254,
    300,
    350,
    360,
    400,
    600,
    720,
    1200,
    2400,
)  # / inch
_PRINT_TOLERANCE = 0.003  # resolutions are rounded: 28.35 per cm are 72 per inch
_COARSEST = 26  # per inch: no camera on a microscope has pixels of a millimetre
_CM_PER_INCH = 2.54
_RGB_PHOTOMETRIC = {2, 6}
_ALPHA = {1, 2}


def describe_imagej(file: Any, channels: int, slices: int) -> Description:
    """Describe an ImageJ hyperstack.

    ImageJ writes the unit of X, and those of Y and Z only where they differ; a slice distance only if it is not 1.

    Args:
        file: tifffile.TiffFile.
        channels: how many channels the pixels have.
        slices: how many slices they have.
    """
    stated = file.imagej_metadata or {}
    unit = ngff_unit(str(stated.get("unit", "")))
    units = {letter: ngff_unit(str(stated[key])) if key in stated else unit for letter, key in _UNIT_KEYS}
    y, x = (
        _per_pixel(file.pages.first, tag, units[letter]) for letter, tag in (("y", "YResolution"), ("x", "XResolution"))
    )
    described = Description(
        t=axis(stated.get("finterval"), ngff_unit(str(stated.get("tunit", "sec")))),
        channels=_imagej_channels(stated, channels),
    )
    if is_for_print(y) or is_for_print(x):
        if units["z"] == unit:  # the inches of a printer are none of the stage either
            return described
    else:
        described = replace(described, y=y, x=x)
    spacing = number(stated.get("spacing"))
    if spacing is None and slices > 1 and "spacing" not in stated and described.x.step_um is not None:
        step = Axis(1.0, units["z"])
        warning = (
            f"ImageJ states no distance between slices, which it leaves out when it is 1: taken for 1 {units['z']}. If "
            "it is another, say --z-step (Python: z_step_um=)."
        )
        return replace(described, z=step, warnings=(warning,)) if step.step_um is not None else described
    # ImageJ writes a negative spacing when the slices were taken downwards.
    return replace(described, z=axis(abs(spacing) if spacing is not None else None, units["z"]))


_UNIT_KEYS = (("x", "unit"), ("y", "yunit"), ("z", "zunit"))


def _imagej_channels(stated: dict[str, Any], count: int) -> tuple[Channel, ...]:
    tables = stated.get("LUTs") or []
    if stated.get("mode") != "composite" or len(tables) != count:
        return ()
    return tuple(
        Channel(str(index), color="".join(f"{int(row[-1]):02X}" for row in table)) for index, table in enumerate(tables)
    )


def describe_plain(file: Any) -> Description:
    """Describe a TIFF that has nothing but its resolution tags."""
    page = file.pages.first
    tag = page.tags.get("ResolutionUnit")
    unit = _RESOLUTION_UNITS.get(int(tag.value)) if tag is not None else None
    y, x = (_per_pixel(page, name, unit) for name in ("YResolution", "XResolution"))
    return Description() if is_for_print(y) or is_for_print(x) else Description(y=y, x=x)


def is_for_print(step: Axis) -> bool:
    """Say whether a pixel size in inches or centimetres is a resolution for print, or a default of a converter."""
    if step.unit not in ("inch", "centimeter"):
        return False
    if step.unit == "inch":
        per_inch = 1 / step.step
    else:
        per_cm = 1 / step.step
        per_inch = per_cm * _CM_PER_INCH
        # Some programs keep whole numbers only: 28 per cm are 72 per inch.
        if any(per_cm == round(known / _CM_PER_INCH) for known in _PRINT_RESOLUTIONS):
            return True
    near = any(abs(per_inch - known) <= _PRINT_TOLERANCE * known for known in _PRINT_RESOLUTIONS)
    return near or per_inch < _COARSEST


def _per_pixel(page: Any, tag_name: str, unit: str | None) -> Axis:
    tag = page.tags.get(tag_name)
    if tag is None or unit is None:
        return Axis()
    try:
        numerator, denominator = tag.value
        return axis(denominator / numerator, unit)
    except (TypeError, ValueError, ZeroDivisionError):
        return Axis()


def is_rgb(page: Any) -> bool:
    """Say whether a page holds a colour image."""
    return int(page.photometric) in _RGB_PHOTOMETRIC and int(page.samplesperpixel) in (3, 4)


def has_alpha(page: Any) -> bool:
    """Say whether the last sample of a page is transparency."""
    extra = tuple(int(sample) for sample in page.extrasamples)
    return int(page.samplesperpixel) in (2, 4) and bool(set(extra) & _ALPHA)


def page_warnings(page: Any, *, alpha: bool) -> Iterator[str]:
    """Yield what a user should know about how the values of a page are meant."""
    if alpha:
        yield "The image has an alpha channel; it is left out."
    if int(page.photometric) == 0:
        yield "The file says that 0 is white; the values are used as they are stored."
    if int(page.photometric) == 3 and not _is_ramp(page):
        yield (
            "The file has a table of colours that do not grow brighter with the values; the values are used as "
            "intensities. If they are numbers of colours, save the image as RGB."
        )


def _is_ramp(page: Any) -> bool:
    """Say whether the colours of a palette grow brighter with the values, so that these are intensities."""
    tag = page.tags.get("ColorMap")
    table = None if tag is None else np.asarray(tag.value, dtype=np.float64)
    if table is None or table.size % 3:
        return False
    brightness = np.diff(np.array([0.2125, 0.7154, 0.0721]) @ table.reshape(3, -1))
    return bool(np.all(brightness >= 0) or np.all(brightness <= 0))
