"""How OME-XML, ImageJ and OME-NGFF name the same unit."""

from math import isfinite

from hybridfusion_core.stack import Axis

# OME-XML symbols and what ImageJ users type, to OME-NGFF (UDUNITS-2) names.
_LENGTHS = {
    "å": "angstrom",
    "angstrom": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "nanometer": "nanometer",
    "nanometre": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",  # U+00B5, the micro sign
    "μm": "micrometer",  # U+03BC, the Greek letter
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometer": "micrometer",
    "micrometre": "micrometer",
    "mm": "millimeter",
    "millimeter": "millimeter",
    "cm": "centimeter",
    "centimeter": "centimeter",
    "m": "meter",
    "meter": "meter",
    "in": "inch",
    "inch": "inch",
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
    "second": "second",
    "min": "minute",
    "minute": "minute",
    "h": "hour",
    "hour": "hour",
    "d": "day",
    "day": "day",
}
_OME_SYMBOLS = {
    "angstrom": "Å",
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}


def ngff_unit(symbol: str | None) -> str | None:
    """Return the OME-NGFF name of a unit, or None for pixels, reference frames and the unknown."""
    if not symbol:
        return None
    # ImageJ writes non-ASCII characters as "\\u00B5m".
    key = symbol.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").lower()
    names = {**_LENGTHS, **_TIMES, **{name: name for name in _OME_SYMBOLS}}
    return names.get(key)


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
