"""How OME-XML, ImageJ and OME-NGFF name the same unit, and numbers with units as axes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from hybridfusion_core.stack import UNITS_UM, Axis

# UnitsLength of the OME schema, whose symbols tell capitals apart (Mm is not mm), to OME-NGFF names.
_OME_LENGTHS = {
    "Ym": "yottameter",
    "Zm": "zettameter",
    "Em": "exameter",
    "Pm": "petameter",
    "Tm": "terameter",
    "Gm": "gigameter",
    "Mm": "megameter",
    "km": "kilometer",
    "hm": "hectometer",
    "m": "meter",
    "dm": "decimeter",
    "cm": "centimeter",
    "mm": "millimeter",
    "\u00b5m": "micrometer",  # the micro sign
    "\u03bcm": "micrometer",  # the Greek letter
    "nm": "nanometer",
    "pm": "picometer",
    "fm": "femtometer",
    "am": "attometer",
    "zm": "zeptometer",
    "ym": "yoctometer",
    "\u00c5": "angstrom",
    "\u212b": "angstrom",  # the sign of the unit; the line above has the letter
    "in": "inch",
    "ft": "foot",
    "yd": "yard",
    "mi": "mile",
    "pc": "parsec",
}
# Those that OME-NGFF does not know, in µm: lengths in them become µm.
_OME_ONLY_UM = {
    "dam": 1e7,
    "thou": 25.4,
    "li": 25_400.0 / 12,
    "pt": 25_400.0 / 72,
    "ua": 1.495978707e17,
    "ly": 9.4607304725808e21,
}
# What users type into ImageJ, in lower case.
_TYPED_LENGTHS = {
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "inches": "inch",
    "feet": "foot",
    "å": "angstrom",
    **{symbol.lower(): name for symbol, name in _OME_LENGTHS.items() if symbol.lower() == symbol},
    **{name: name for name in UNITS_UM},
    **{f"{name}s": name for name in UNITS_UM},
    **{name.replace("meter", "metre"): name for name in UNITS_UM},
    **{name.replace("meter", "metres"): name for name in UNITS_UM if "meter" in name},
}
_TIMES = {
    "ns": "nanosecond",
    "us": "microsecond",
    "µs": "microsecond",
    "μs": "microsecond",
    "ms": "millisecond",
    "msec": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_TIME_NAMES = ("nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day")
_OME_SYMBOLS = {
    **{name: symbol for symbol, name in reversed(_OME_LENGTHS.items())},
    **dict(zip(_TIME_NAMES, ("ns", "µs", "ms", "s", "min", "h", "d"), strict=True)),
}
_NO_LENGTHS = {"", "pixel", "pixels", "reference frame"}
_DEEPEST, _FLATTEST = 200, 1 / 50  # times a pixel: steps between slices that microscopes take lie between
# Units in which a microscopist thinks; lengths in all others are shown and written in µm.
_USUAL = {"angstrom", "nanometer", "micrometer", "millimeter", "centimeter", "meter", "inch"}


def ngff_unit(symbol: str | None) -> str | None:
    """Return the OME-NGFF name of a unit as users and NGFF write it, or None for pixels and the unknown."""
    if not symbol:
        return None
    # ImageJ writes non-ASCII characters as "\\u00B5m".
    key = symbol.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\\u00C5", "Å").lower()
    names = {**_TYPED_LENGTHS, **_TIMES, **{name: name for name in _TIME_NAMES}}
    return names.get(key)


def ome_unit(symbol: str | None) -> tuple[str | None, float]:
    """Return the OME-NGFF name of a unit of OME-XML, and the factor that turns a number into this unit.

    Returns:
        None for pixels, reference frames and the unknown.
    """
    stated = (symbol or "").strip()
    if stated in _OME_ONLY_UM:
        return "micrometer", _OME_ONLY_UM[stated]
    return _OME_LENGTHS.get(stated) or ngff_unit(stated), 1.0


def ome_time_unit(symbol: str | None) -> str | None:
    """Return the OME-NGFF name of a unit of time of OME-XML, or None for one that is not known: Ms is not ms."""
    stated = (symbol or "").strip()
    return _TIMES.get(stated)


def is_no_length(symbol: str) -> bool:
    """Say whether a unit of OME-XML says that there is no scale, rather than one that is not known."""
    return symbol.strip().lower() in _NO_LENGTHS


def ome_symbol(unit: str | None) -> str | None:
    """Return the OME-XML symbol of an OME-NGFF unit, or None if OME-XML has none that we know."""
    return _OME_SYMBOLS.get(unit or "")


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return result if isfinite(result) else None


def axis(step: object, unit: str | None) -> Axis:
    """Make an axis of a stored step; a step that is no positive number counts as unknown."""
    value = number(step)
    return Axis() if value is None or value <= 0 else Axis(value, unit)


def usual(axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """Return the axes of space in µm if a unit is one unusual for pixels, or they are mixed.

    Args:
        axes: by letter; what is no length stays as it is.
    """
    units = {axis.unit for axis in axes.values() if axis.step_um is not None}
    if len(units) <= 1 and units <= _USUAL:
        return dict(axes)
    return {letter: _in_um(axis) for letter, axis in axes.items()}


def doubtful_step(z: Axis, x: Axis) -> str:
    """Say that a distance between slices fits no pixel size, as one in a wrong unit does not; "" if it fits.

    Args:
        z: distance between slices.
        x: side of a pixel.
    """
    step, pixel = z.step_um, x.step_um
    if step is None or pixel is None or _FLATTEST <= step / pixel <= _DEEPEST:
        return ""
    return (
        f"The slices are {step:g} µm apart and a pixel is {pixel:g} µm wide, which fits no microscope: one of them may "
        "be in another unit than it says. If so, say --z-step and --pixel-size in µm (Python: z_step_um=, "
        "pixel_size_um=)."
    )


def _in_um(axis: Axis) -> Axis:
    # 2.0E-5 dm is meant to be 2 µm, not 2.0000000000000004.
    return axis if axis.step_um is None else Axis(float(f"{axis.step_um:.15g}"), "micrometer")
