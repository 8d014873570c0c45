"""Fused planes seen from the side: they step aside, since each is as thick as its stack and would cover it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from napari.layers import Layer

from napari_hybridfusion.result.shown import shows_result

if TYPE_CHECKING:
    from napari.components import ViewerModel


class EdgeOn:
    """Hides the planes of results while a section along Z is shown, and shows them again after that."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer_ref = ref(viewer)
        self._hidden: list[Layer] = []
        for event in (viewer.dims.events.order, viewer.dims.events.ndisplay, viewer.layers.events.inserted):
            event.connect(self._look)

    def _look(self, _event: object = None) -> None:
        viewer = self._viewer_ref()
        if viewer is None:
            return
        for layer in self._hidden:
            if layer in viewer.layers and not _on_edge(viewer, layer):
                layer.visible = True
        self._hidden = [each for each in self._hidden if each in viewer.layers and _on_edge(viewer, each)]
        for layer in viewer.layers:
            if layer.visible and shows_result(layer) and _on_edge(viewer, layer):
                layer.visible = False
                self._hidden.append(layer)


def _on_edge(viewer: ViewerModel, layer: Layer) -> bool:
    axes, dims = layer.metadata["hybridfusion"].get("axes", "YX"), viewer.dims
    plane = {dims.ndim - layer.ndim + axes.index(letter) for letter in "YX"}
    return dims.ndisplay == 2 and set(dims.displayed) != plane
