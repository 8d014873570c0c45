"""What ImageJ and plain TIFF files say in their tags: steps, channel colours, alpha."""

from __future__ import annotations

from typing import Any

from hybridfusion_core.io.description import Description
from hybridfusion_core.io.units import axis, ngff_unit, number
from hybridfusion_core.stack import Axis, Channel

_RESOLUTION_UNITS = {2: "inch", 3: "centimeter"}
# Programs that know no pixel size write a resolution for print; as a pixel size it would be nonsense.
_PRINT_RESOLUTIONS = {72, 96, 100, 120, 144, 150, 180, 200, 240, 254, 300, 350, 400, 600, 1200}
_RGB_PHOTOMETRIC = {2, 6}
_ALPHA = {1, 2}


def describe_imagej(file: Any, channels: int) -> Description:
    """Describe an ImageJ hyperstack.

    Args:
        file: tifffile.TiffFile.
        channels: how many channels the pixels have.
    """
    stated = file.imagej_metadata or {}
    unit = ngff_unit(str(stated.get("unit", "")))
    y, x = (_per_pixel(file.pages.first, tag, unit) for tag in ("YResolution", "XResolution"))
    spacing = number(stated.get("spacing"))
    return Description(
        t=axis(stated.get("finterval"), ngff_unit(str(stated.get("tunit", "sec")))),
        # ImageJ writes a negative spacing when the slices were taken downwards.
        z=axis(abs(spacing) if spacing is not None else None, unit),
        y=y,
        x=x,
        channels=_imagej_channels(stated, channels),
    )


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
    if unit == "inch" and any(round(1 / step.step, 3) in _PRINT_RESOLUTIONS for step in (y, x)):
        return Description()
    return Description(y=y, x=x)


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
