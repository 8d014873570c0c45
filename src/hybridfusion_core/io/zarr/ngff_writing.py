"""Write OME-NGFF metadata of a result, 0.4 or 0.5, through yaozarrs' models of the specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from yaozarrs import v04, v05

from hybridfusion_core.io.palette import slice_colors
from hybridfusion_core.io.pyramid import level_factors
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.units import ngff_unit
from hybridfusion_core.stack import Axis, Channel

Ngff = Literal["0.4", "0.5"]


def image_attributes(
    spec: ResultSpec, name: str, channels: Sequence[Channel], dtype: np.dtype[Any], ngff: Ngff
) -> dict[str, Any]:
    """Return the attributes of the group of an image whose channels all have windows.

    Args:
        spec: for the sizes and steps.
        name: of the image.
        channels: with windows; a missing colour is written as white.
        dtype: of the pixels, for the possible range.
        ngff: version to write.
    """
    return attributes_of(
        (v04 if ngff == "0.4" else v05).Image,
        {
            "multiscales": [_multiscale(spec, name, "mean")],
            "omero": {
                "channels": [_omero_channel(channel, dtype) for channel in channels],
                # Some readers insist on the numbers.
                "rdefs": {
                    "defaultT": 0,
                    "defaultZ": 0,
                    "model": "color" if len(channels) > 1 else "greyscale",
                },
            },
        },
        ngff,
    )


def label_attributes(spec: ResultSpec, name: str, ngff: Ngff) -> dict[str, Any]:
    """Return the attributes of the group of the decision labels: colours in slice order, 0 transparent."""
    colors = [{"label-value": value, "rgba": list(rgba)} for value, rgba in enumerate(slice_colors(spec.slices))]
    return attributes_of(
        (v04 if ngff == "0.4" else v05).LabelImage,
        {
            "multiscales": [_multiscale(spec, name, "nearest")],
            "image-label": {"version": ngff, "colors": colors, "source": {"image": "../../"}},
        },
        ngff,
    )


def labels_group_attributes(ngff: Ngff) -> dict[str, Any]:
    """Return the attributes of the group that lists the labels."""
    return attributes_of((v04 if ngff == "0.4" else v05).LabelsGroup, {"labels": ["decision"]}, ngff)


def _multiscale(spec: ResultSpec, name: str, method: str) -> dict[str, Any]:
    return {
        "name": name,
        "axes": [
            _axis("t", "time", spec.t),
            _axis("c", "channel", Axis()),
            _axis("z", "space", spec.z),
            _axis("y", "space", spec.y),
            _axis("x", "space", spec.x),
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(spec, factor)}
            for level, factor in enumerate(level_factors(*spec.shape[2:]))
        ],
        "type": method,
    }


def _axis(name: str, kind: str, axis: Axis) -> dict[str, str]:
    described = {"name": name, "type": kind}
    # A unit outside the standard would make the image invalid: better none.
    return described | ({"unit": axis.unit} if axis.unit and ngff_unit(axis.unit) else {})


def _omero_channel(channel: Channel, dtype: np.dtype[Any]) -> dict[str, Any]:
    low, high = channel.window or value_range(dtype)
    smallest, largest = value_range(dtype) if dtype.kind != "f" else (low, high)
    return {
        "label": channel.name,
        "color": channel.color or "FFFFFF",
        "active": True,
        "window": {"start": low, "end": high, "min": smallest, "max": largest},
    }


def value_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the range of an integer type, or 0 to 1 for floats."""
    if dtype.kind == "f":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def attributes_of(model: Any, values: dict[str, Any], ngff: Ngff) -> dict[str, Any]:
    """Return values that a model of the specification accepts, at the place where its version has them."""
    dumped: dict[str, Any] = model.model_validate(values).model_dump(mode="json", exclude_none=True, by_alias=True)
    return dumped if ngff == "0.4" else {"ome": dumped}


def _transformations(spec: ResultSpec, factors: tuple[int, int]) -> list[dict[str, Any]]:
    steps = [spec.t.step, 1.0, spec.z.step, spec.y.step * factors[0], spec.x.step * factors[1]]
    # A pixel of a level covers several of level 0; its centre lies in the middle of theirs.
    offsets = [
        (first + (factor - 1) / 2) * step.step
        for first, factor, step in zip(spec.start, factors, (spec.y, spec.x), strict=True)
    ]
    first = spec.z_positions_um[0] / spec.z.step_um * spec.z.step if spec.z_positions_um and spec.z.step_um else 0.0
    scale = {"type": "scale", "scale": steps}
    if not any((first, *offsets)):
        return [scale]
    return [scale, {"type": "translation", "translation": [0.0, 0.0, first, *offsets]}]
