"""What every native file is to the rest: scenes that are described, and a reader that gives regions of them.

A *scene* is one image of a file: a position, a tile region, an image of a series. It maps to one `Stack`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from hybridfusion_core.io.description import Description
from hybridfusion_core.io.region import DecodeUnit

# What light did, from the flags of the libraries. Transmitted light wins: a confocal's transmission detector is one.
CONFOCAL, WIDEFIELD, MULTIPHOTON, TRANSMITTED = "confocal", "widefield", "multiphoton", "transmitted"


@dataclass(frozen=True)
class Scene:
    """One image of a native file, by its metadata alone.

    Attributes:
        about: name, steps, channels, z positions, aperture of the objective, and warnings.
        shape: T C Z Y X; all 0 if there is a problem that hides them.
        dtype: name of the pixel type.
        rgb: the three channels are the colours of one image.
        objective: as the file calls it, or None.
        decode_unit: T C Z Y X of what can only be decoded as a whole, or None.
        well: as the metadata write it ("B02"), if they state one.
        position_um: y and x of the centre on the stage, or None.
        problem: why this scene cannot be opened as a stack; "" if it can.
    """

    about: Description
    shape: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    dtype: str = "uint16"
    rgb: bool = False
    objective: str | None = None
    decode_unit: DecodeUnit | None = None
    well: str | None = None
    position_um: tuple[float, float] | None = None
    problem: str = ""


class NativeReader(Protocol):
    """An open native file.

    Attributes:
        scenes: its images, in file order.
        companions: paths of other files that belong to it.
    """

    scenes: tuple[Scene, ...]
    companions: tuple[str, ...]

    def read(self, scene: int, t: int, z: int, channels: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region of one slice.

        Args:
            scene: index of the scene.
            t: index of the time point.
            z: index of the slice.
            channels: indices of channels.
            y: rows within the plane, step 1.
            x: columns within the plane, step 1.

        Returns:
            C Y X.
        """

    def close(self) -> None:
        """Close the file."""
