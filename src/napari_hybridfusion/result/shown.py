"""Results that are in the window: which layers explain one another, and what they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize, ref

import numpy as np
from napari.layers import Layer

from napari_hybridfusion.job.run import Fused
from napari_hybridfusion.layers.sources import Source

if TYPE_CHECKING:
    from napari.components import ViewerModel

Place = tuple[int, int, int]  # t, y, x in the plane of a result


@dataclass(frozen=True)
class ShownResult:
    """A result and its layers.

    Attributes:
        layers: all that show it.
        source: what was fused.
        fused: what came out, and how.
        path: of the OME-Zarr that holds it; None if it is in memory.
        base: the result that this one is a correction of; None for one that nobody corrected.
    """

    layers: tuple[Layer, ...]
    source: Source
    fused: Fused
    path: Path | None
    base: ShownResult | None = None

    @property
    def token(self) -> str:
        """What the metadata of all its layers call it."""
        return str(self.layers[0].metadata["hybridfusion"]["result"])

    def pixel(self, layer: Layer, position: Sequence[float]) -> Place:
        """Return which pixel of the plane lies nearest to a place in the world, be it outside.

        Args:
            layer: one of the result's.
            position: in the world, one number per axis of the viewer.
        """
        index = np.rint(layer.world_to_data(np.asarray(position)[-layer.ndim :])).astype(int)
        at = dict(zip(self.source.frame.axes, (int(each) for each in index), strict=True))
        return at.get("T", 0), at["Y"], at["X"]

    def depth(self) -> tuple[int, float, float] | None:
        """Return where the slices of the stack lie: which axis from the end, first place, step; None without Z."""
        frame = self.source.frame
        if "Z" not in frame.axes:
            return None
        axis = frame.axes.index("Z")
        return len(frame.axes) - axis, frame.translate[axis], frame.scale[axis]

    def shown_slice(self, viewer: ViewerModel) -> int | None:
        """Return which slice of the stack the slider shows, counted from 1; None without a Z axis."""
        if (depth := self.depth()) is None:
            return None
        behind, start, step = depth
        number = round((float(viewer.dims.point[viewer.dims.ndim - behind]) - start) / step) + 1
        return min(max(1, number), int(self.source.stack.shape[2]))

    def holds(self, place: Place) -> bool:
        """Say whether a pixel lies in the plane."""
        frames, _, rows, columns = self.fused.spec.shape
        return all(0 <= at < length for at, length in zip(place, (frames, rows, columns), strict=True))


class ShownResults:
    """The results of one window, latest last; those that were taken out of it are forgotten, pixels and all."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer_ref = ref(viewer)
        self._results: list[ShownResult] = []
        self.edits: list[Any] = []  # `correct.Edit` of each layer that was painted on

    @property
    def _viewer(self) -> ViewerModel:
        viewer = self._viewer_ref()
        assert viewer is not None  # noqa: S101 - who asks has the window
        return viewer

    def add(self, result: ShownResult) -> None:
        """Remember a result whose layers are in the window."""
        shown = [each for each in self._results if any(layer in self._viewer.layers for layer in each.layers)]
        self._results = [*shown, result]

    def active(self) -> tuple[ShownResult, Layer] | None:
        """Return the result of the selected layer, and that layer; None if it shows no result."""
        layer = self._viewer.layers.selection.active
        about = None if layer is None else _about(layer)
        if layer is None or about is None:
            return None
        # By what the layers say, and not by which they are: a layer that was duplicated is still of its result.
        result = next((each for each in reversed(self._results) if each.token == about["result"]), None)
        return None if result is None else (result, layer)

    def latest_of(self, source: Source) -> ShownResult | None:
        """Return the latest result that was made of the same layers and is still in the window, whatever its name."""
        found = [each for each in self._results if each.source.layers == source.layers and each.base is None]
        return next(
            (each for each in reversed(found) if any(layer in self._viewer.layers for layer in each.layers)), None
        )

    def correction_of(self, base: ShownResult) -> ShownResult | None:
        """Return the latest correction of a result."""
        return next((each for each in reversed(self._results) if each.base is base), None)


_OF_VIEWERS: dict[int, ShownResults] = {}


def results_of(viewer: ViewerModel) -> ShownResults:
    """Return the results of a window: they belong to it, and outlive the dock that made them."""
    window = window_of(viewer)
    key = id(window)
    if key not in _OF_VIEWERS:
        _OF_VIEWERS[key] = ShownResults(window)
        finalize(window, _OF_VIEWERS.pop, key, None)
    return _OF_VIEWERS[key]


def window_of(viewer: ViewerModel) -> ViewerModel:
    """Return the viewer itself: napari hands every dock a proxy of its own, whose layers are proxies too."""
    window: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return window


def explaining(viewer: ViewerModel, layer: Layer) -> dict[str, Layer]:
    """Return the layers that explain a layer of a result, by product; none if it shows no result.

    A result that was opened from a file has them too: what belongs together has one name in the layers' metadata.
    """
    decided = _alike(viewer, layer, "result", "decision")
    return {each.metadata["hybridfusion"]["product"]: each for each in decided if not _is_fused(each)}


def fused_beside(viewer: ViewerModel, layer: Layer) -> list[Layer]:
    """Return the layers with the fused channels of the result that a layer shows."""
    return [each for each in _alike(viewer, layer, "result") if _is_fused(each)]


def together(viewer: ViewerModel, layer: Layer) -> list[Layer]:
    """Return all layers of the result that a layer shows."""
    return _alike(viewer, layer, "result")


def shows_result(layer: Layer) -> bool:
    """Say whether a layer is of a result, be it just fused or opened from a file."""
    return _about(layer) is not None


def decision_of(layer: Layer) -> int:
    """Return the index along C of the decision that a layer of a result belongs to."""
    return int(layer.metadata["hybridfusion"]["decision"])


def _alike(viewer: ViewerModel, layer: Layer, *keys: str) -> list[Layer]:
    """Return the layers of results, this one among them, that agree with it in some of what they say."""
    about = _about(layer)
    if about is None:
        return []
    return [
        each
        for each in viewer.layers
        if (other := _about(each)) is not None and all(other[key] == about[key] for key in keys)
    ]


def _is_fused(layer: Layer) -> bool:
    return bool(layer.metadata["hybridfusion"]["product"] == "fused")


def _about(layer: Layer) -> dict[str, Any] | None:
    about = layer.metadata.get("hybridfusion", {})
    return about if {"result", "decision", "product"} <= set(about) else None
