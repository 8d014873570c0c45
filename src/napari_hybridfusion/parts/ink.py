"""Colours that can be read on the window's theme; no colour has enough contrast on a light and on a dark one."""

from __future__ import annotations

from dataclasses import dataclass

from napari.settings import get_settings
from napari.utils.theme import get_theme


@dataclass(frozen=True)
class Inks:
    """Colours as "#RRGGBB".

    Attributes:
        error: of messages about what is wrong.
        plain: of axes and labels in plots.
    """

    error: str
    plain: str


_ON_DARK = Inks(error="#ff8a75", plain="#b4b8be")
_ON_LIGHT = Inks(error="#a92d16", plain="#55585d")


def inks() -> Inks:
    """Return the colours for the theme that is chosen now."""
    background = get_theme(get_settings().appearance.theme).background.as_rgb_tuple(alpha=False)
    return _ON_LIGHT if sum(background) > 3 * 127 else _ON_DARK
