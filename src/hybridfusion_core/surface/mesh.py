"""A height map as a mesh in µm, coloured by the fused image where the format can hold colours."""

from __future__ import annotations

import math
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import Delivery, explained
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import quantity_of
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.stack import Stack

SUFFIXES = (".ply", ".obj", ".stl")
_VERTICES = 1_000_000  # at most; planes of more pixels are thinned out
_BAND = 1024


def write_mesh(result: str | Path, path: Path, *, sheet: int = 1, overwrite: bool = False) -> tuple[int, int]:
    """Write the height of a result as a mesh; there are no faces where nothing is in focus.

    x grows to the right, y upwards (rows run down), z with the height; all in µm.

    Args:
        result: what `fuse` wrote.
        path: ends in .ply or .obj, which hold the brightness of the fused image, or in .stl.
        sheet: which surface, counted from 1.
        overwrite: replace an existing file.

    Returns:
        How many vertices and faces it has.

    Raises:
        UserInputError: no height in µm, another suffix, or an existing file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserInputError(f"The mesh {path.name!r} has no known suffix; expected {', '.join(SUFFIXES)}.")
    trimesh = _trimesh()
    source = Path(result)
    delivery = Delivery((path,), overwrite=overwrite)
    try:
        with open_stack(str(source)) as fused, open_stack(str(result_paths(source).get("maps", source))) as maps:
            height, grey, steps = _planes(fused, maps, sheet - 1)
        vertices, faces, known = _surface(height, steps)
        colours = None if path.suffix.lower() == ".stl" else _colours(grey[known])
        mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)
        content = mesh.export(file_type=path.suffix.lower()[1:])
        with explained(path):
            part = delivery.part(path)
            part.write_bytes(content if isinstance(content, bytes) else content.encode())
            delivery.publish()
    finally:
        with suppress(OSError):
            delivery.discard()
    return len(vertices), len(faces)


def _trimesh() -> Any:
    try:
        return import_module("trimesh")
    except ImportError:
        raise UserInputError(
            "A mesh is written by trimesh, which is not installed; expected it. Install it with "
            "`pip install 'napari-hybridfusion[mesh]'`."
        ) from None


def _planes(fused: Stack, maps: Stack, plane: int) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float]]:
    """Height and brightness of the first time point, Y X each, thinned out; and µm between their pixels."""
    found = [i for i, channel in enumerate(maps.channels) if quantity_of(channel.name) == "height_um"]
    steps = (fused.y.step_um, fused.x.step_um)
    if not found or steps[0] is None or steps[1] is None:
        raise UserInputError(
            f"{fused.name} has no height in µm, or no pixel size; expected both for a mesh. Fuse again with --z-step "
            "and --pixel-size."
        )
    every = max(math.ceil(math.sqrt(fused.shape[3] * fused.shape[4] / _VERTICES)), 1)
    heights, greys = [], []
    for top in range(0, fused.shape[3], _BAND - _BAND % every):
        rows, columns = slice(top, min(top + _BAND - _BAND % every, fused.shape[3])), slice(0, fused.shape[4])
        heights.append(maps.read(0, found[0], [plane], rows, columns)[0][::every, ::every])
        greys.append(fused.read(0, 0, [plane], rows, columns)[0][::every, ::every])
    return np.concatenate(heights), np.concatenate(greys), (steps[0] * every, steps[1] * every)


def _surface(
    height: NDArray[Any], steps: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Vertices N 3, faces M 3, and which pixels are vertices: two triangles between four pixels that have a height."""
    known = np.isfinite(height)
    number = np.cumsum(known.ravel()).reshape(known.shape) - 1
    y, x = np.nonzero(known)
    vertices = np.stack([x * steps[1], -y * steps[0], height[known]], axis=1).astype(np.float64)
    whole = known[:-1, :-1] & known[1:, :-1] & known[:-1, 1:] & known[1:, 1:]
    a, b, c, d = (part[whole] for part in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]))
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([c, b, d], axis=1)])
    return vertices, faces.astype(np.int64), known


def _colours(grey: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.nanpercentile(grey, (0.5, 99.8)) if grey.size else (0.0, 1.0)
    shade = np.clip((grey - float(low)) / max(float(high - low), 1e-12), 0, 1) * 255
    return np.asarray(np.stack([shade] * 3 + [np.full(shade.shape, 255)], axis=1), np.uint8)
