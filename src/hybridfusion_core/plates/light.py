"""What wavelengths and names say of a channel: its display colour, and whether light went through the specimen."""

from __future__ import annotations

import re

# Emission in nm up to which a colour is shown; the eye sees little beyond red, so that far red is shown as magenta.
_COLORS = ((480, "0000FF"), (505, "00FFFF"), (565, "00FF00"), (600, "FFFF00"), (650, "FF0000"), (1200, "FF00FF"))
_TRANSMITTED = re.compile(
    r"(?<![a-z])(?:tl|bf|pc|dic|dpc|bright ?field|transmitted|transmission|(?:digital ?)?phase(?: ?contrast)?)"
    r"(?![a-z])",
    re.I,
)


def emission_color(wavelength_nm: float | None) -> str | None:
    """Return a display colour as "RRGGBB" for light of a wavelength, or None for ultraviolet and unknown light."""
    if wavelength_nm is None or wavelength_nm < 350:
        return None
    return next((color for limit, color in _COLORS if wavelength_nm <= limit), None)


def says_transmitted(name: str) -> bool | None:
    """Return True for names such as "TL" and "Brightfield"; None where a name does not tell."""
    return True if _TRANSMITTED.search(name) else None
