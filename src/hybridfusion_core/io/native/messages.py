"""How scenes travel between two processes: as JSON, checked where it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hybridfusion_core.io.description import Description
from hybridfusion_core.io.native.scene import Scene
from hybridfusion_core.io.region import DecodeUnit
from hybridfusion_core.stack import Axis, Channel


def as_json(scene: Scene) -> dict[str, Any]:
    """Return plain JSON values."""
    return asdict(scene)


def from_json(stated: Mapping[str, Any]) -> Scene:
    """Make a scene of what `as_json` gave.

    Raises:
        LookupError, TypeError, ValueError: it is something else.
    """
    about = dict(stated["about"])
    steps = {letter: Axis(float(about[letter]["step"]), about[letter]["unit"]) for letter in "tzyx"}
    description = Description(
        name=str(about["name"]),
        channels=tuple(_channel(each) for each in about["channels"]),
        z_positions_um=_numbers(about["z_positions_um"]),
        na=None if about["na"] is None else float(about["na"]),
        warnings=tuple(str(each) for each in about["warnings"]),
        t=steps["t"],
        z=steps["z"],
        y=steps["y"],
        x=steps["x"],
    )
    position = _numbers(stated["position_um"])
    return Scene(
        about=description,
        shape=_unit(stated["shape"]),
        dtype=str(stated["dtype"]),
        rgb=bool(stated["rgb"]),
        objective=None if stated["objective"] is None else str(stated["objective"]),
        decode_unit=None if stated["decode_unit"] is None else _unit(stated["decode_unit"]),
        well=None if stated["well"] is None else str(stated["well"]),
        position_um=None if position is None else (position[0], position[1]),
        problem=str(stated["problem"]),
    )


def _channel(stated: Mapping[str, Any]) -> Channel:
    return Channel(
        str(stated["name"]), color=stated["color"], transmitted=stated["transmitted"], modality=stated["modality"]
    )


def _numbers(stated: Sequence[Any] | None) -> tuple[float, ...] | None:
    return None if stated is None else tuple(float(each) for each in stated)


def _unit(stated: Sequence[Any]) -> DecodeUnit:
    t, c, z, y, x = (int(each) for each in stated)
    return t, c, z, y, x
