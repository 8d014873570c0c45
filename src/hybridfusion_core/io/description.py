"""What a file says about its pixels, before the pixels are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from hybridfusion_core.stack import Axis, Channel

_UNKNOWN = Axis()
RGB_CHANNELS = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"))


@dataclass(frozen=True)
class Description:
    """Steps, channels and Z positions as stored, and what the user should know about them.

    `sizes` are the lengths that the metadata promise, by axis letter, `planes` the number of pages; empty and
    0 if they promise none. `na` is the numerical aperture of the objective.
    """

    name: str = ""
    t: Axis = _UNKNOWN
    z: Axis = _UNKNOWN
    y: Axis = _UNKNOWN
    x: Axis = _UNKNOWN
    channels: tuple[Channel, ...] = ()
    z_positions_um: tuple[float, ...] | None = None
    sizes: tuple[tuple[str, int], ...] = ()
    planes: int = 0
    na: float | None = None
    warnings: tuple[str, ...] = ()
