"""Where the slices of a stack lie, as numbers that can be written down, read again and applied to another stack."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError, printable

Kind = Literal["none", "shift", "similarity"]
Rect = tuple[slice, slice]

FORMAT = "hybridfusion transforms 1"
_LARGEST_FILE = 1 << 26  # bytes; a thousand slices at a thousand time points take less
_SCALES = 0.5, 2.0  # nothing that drifts grows more
_DEAD = 0.1  # px; less than this is no drift that is worth an interpolation


@dataclass(frozen=True)
class Slice:
    """Where one slice lies, seen from the reference.

    What stands there at offset u from the field's centre is found in the slice at centre + scale · R(angle) · u +
    (dy, dx).

    Attributes:
        dy, dx: pixels.
        scale: > 1 where the slice is magnified.
        angle_deg: from +x towards +y.
    """

    dy: float = 0.0
    dx: float = 0.0
    scale: float = 1.0
    angle_deg: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether it lies elsewhere than the reference."""
        return (self.dy, self.dx, self.scale, self.angle_deg) != (0.0, 0.0, 1.0, 0.0)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """2 × 2, from (y, x) of the reference to (y, x) of the slice, both from the field's centre."""
        angle = math.radians(self.angle_deg)
        cosine, sine = self.scale * math.cos(angle), self.scale * math.sin(angle)
        return np.array([[cosine, sine], [-sine, cosine]])

    def at(self, points: NDArray[np.float64], plane: tuple[int, int]) -> NDArray[np.float64]:
        """Return where points … 2 (y, x in pixels) of the reference's frame are found in the slice."""
        centre = centre_of(plane)
        placed: NDArray[np.float64] = (points - centre) @ self.matrix.T + centre + (self.dy, self.dx)
        return placed

    def farthest(self, plane: tuple[int, int]) -> float:
        """Return how far from its place any pixel of the plane is found: the most of the four corners."""
        corners = np.array([(y, x) for y in (0, plane[0] - 1) for x in (0, plane[1] - 1)], np.float64)
        return float(np.linalg.norm(self.at(corners, plane) - corners, axis=1).max())


def centre_of(plane: tuple[int, int]) -> NDArray[np.float64]:
    """Return the centre of a plane, y and x in pixels."""
    return (np.array(plane, np.float64) - 1) / 2


@dataclass(frozen=True)
class Placement:
    """Where the slices of a stack lie at every time point.

    Attributes:
        kind: what was taken back: "shift", "similarity", or "none" where that improved nothing.
        slices: how many slices the stack has.
        plane: Y and X of the stack.
        reference: the slice that stays where it is.
        frames: by time point (a single one serves all), and by index of the slice; slices that are not there stay.
        gain: how much better slices agree outside of where they were compared, in natural units of log-likelihood;
            None if nothing was measured.
    """

    kind: Kind
    slices: int
    plane: tuple[int, int]
    reference: int
    frames: tuple[Mapping[int, Slice], ...]
    gain: float | None = None

    @property
    def moves(self) -> bool:
        """Whether any slice is moved."""
        return any(each.moves for frame in self.frames for each in frame.values())

    @property
    def farthest_px(self) -> float:
        """How far from its place any pixel of any slice lies."""
        return max((each.farthest(self.plane) for frame in self.frames for each in frame.values()), default=0.0)

    def frame(self, t: int) -> Mapping[int, Slice]:
        """Return where slices lie at a time point, by index."""
        return self.frames[t if len(self.frames) > 1 else 0]

    def covered(self) -> Rect:
        """Return the largest rectangle around the centre that all slices cover at all times; rows and columns.

        Raises:
            UserInputError: they share no rectangle of 32 px.
        """
        low, high = np.zeros(2), np.array(self.plane, np.float64) - 1
        for each in (each for frame in self.frames for each in frame.values() if each.moves):
            inside_low, inside_high = _inside(each, self.plane)
            low, high = np.maximum(low, inside_low), np.minimum(high, inside_high)
        first, last = np.ceil(low - 1e-9).astype(int), np.floor(high + 1e-9).astype(int)
        if ((last - first + 1) < np.minimum(32, self.plane)).any():
            raise UserInputError(
                "The slices share no rectangle of 32 px once they lie on each other; expected one to crop to. "
                "Choose --align-frame keep, or fewer slices with --z."
            )
        return slice(int(first[0]), int(last[0]) + 1), slice(int(first[1]), int(last[1]) + 1)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, as `X.transforms.json` holds them."""
        return {
            "format": FORMAT,
            "meaning": "what stands at offset u (y, x) from the field's centre is found in the slice at centre + scale "
            "* R(angle) * u + (dy, dx), in pixels",
            "kind": self.kind,
            "slices": self.slices,
            "plane": list(self.plane),
            "reference": self.reference,
            "gain": None if self.gain is None else round(self.gain, 3),
            "frames": [
                [
                    {"z": z, "dy": each.dy, "dx": each.dx, "scale": each.scale, "angle_deg": each.angle_deg}
                    for z, each in sorted(frame.items())
                ]
                for frame in self.frames
            ],
        }


def placement_of(stored: Any, name: str = "the transforms") -> Placement:
    """Read what `Placement.as_json` gave.

    Raises:
        UserInputError: it is something else.
    """
    try:
        if stored["format"] != FORMAT:
            raise ValueError(f"the format {stored['format']!r}")
        if stored["kind"] not in ("none", "shift", "similarity"):
            raise ValueError(f"the kind {stored['kind']!r}")
        count, (rows, columns) = int(stored["slices"]), stored["plane"]
        frames = tuple({int(each["z"]): _slice_of(each) for each in frame} for frame in stored["frames"])
        placement = Placement(
            stored["kind"],
            count,
            (int(rows), int(columns)),
            int(stored["reference"]),
            frames,
            None if stored.get("gain") is None else float(stored["gain"]),
        )
        if not frames or any(not 0 <= z < count for frame in frames for z in (*frame, placement.reference)):
            raise ValueError("slices that the stack has not")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserInputError(
            f"{name} says nothing of where slices lie ({printable(str(error))}); expected the X.transforms.json that "
            "--align wrote beside a result. Choose another file."
        ) from error
    return placement


def read_placement(path: Path) -> Placement:
    """Read an `X.transforms.json`.

    Raises:
        UserInputError: no such file, or it holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is too large")
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserInputError(
            f"{str(path)!r} cannot be read as transforms ({type(error).__name__}); expected the X.transforms.json that "
            "--align wrote beside a result. Choose another file."
        ) from error
    return placement_of(stored, repr(str(path)))


def check_fit(placement: Placement, shape: tuple[int, int, int, int, int], slices: Sequence[int], name: str) -> None:
    """Refuse transforms of another stack.

    Args:
        placement: that is to be applied.
        shape: T C Z Y X of the stack.
        slices: that will be fused.
        name: of the stack.

    Raises:
        UserInputError: they are of another size, of fewer time points, or lack a slice.
    """
    times, _, depth, *plane = shape
    found = f"{placement.slices} slices of {placement.plane[0]} × {placement.plane[1]} px"
    if (placement.slices, placement.plane) != (depth, tuple(plane)):
        raise UserInputError(
            f"The transforms are those of {found}, {name} has {depth} of {plane[0]} × {plane[1]}; expected the same. "
            "Choose the file of a stack of this size, or measure anew with --align shift."
        )
    if len(placement.frames) not in (1, times):
        raise UserInputError(
            f"The transforms are those of {len(placement.frames)} time points, {name} has {times}; expected the same "
            "number, or one that serves all. Measure anew with --align shift."
        )
    lacking = [z for frame in placement.frames for z in slices if z not in frame]
    if lacking:
        raise UserInputError(
            f"The transforms say nothing of slice {lacking[0]} of {name}, because fewer slices were fused when they "
            "were measured; expected one for each. Choose the same slices with --z, or measure anew with --align shift."
        )


def _slice_of(stored: Mapping[str, Any]) -> Slice:
    values = [float(stored[key]) for key in ("dy", "dx", "scale", "angle_deg")]
    if not all(map(math.isfinite, values)) or not _SCALES[0] <= values[2] <= _SCALES[1]:
        raise ValueError(f"the numbers {values}")
    return Slice(*values)


def _inside(each: Slice, plane: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first and last row and column of a rectangle of the reference's frame that lies within a slice."""
    centre, size = centre_of(plane), np.array(plane, np.float64) - 1
    # Where the slice's own corners lie in the reference's frame; the rectangle inside is cut by the nearer ones.
    inverse = np.linalg.inv(each.matrix)
    corners = np.array([(y, x) for y in (0.0, size[0]) for x in (0.0, size[1])])
    back = (corners - centre - (each.dy, each.dx)) @ inverse.T + centre
    low = np.array([back[:2, 0].max(), back[::2, 1].max()])
    high = np.array([back[2:, 0].min(), back[1::2, 1].min()])
    return low, high


def is_drift(each: Slice, plane: tuple[int, int]) -> bool:
    """Say whether a slice lies far enough from its place to be worth an interpolation."""
    return each.farthest(plane) > _DEAD
