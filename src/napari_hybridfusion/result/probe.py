"""What the pointer learns over a result: which slice, how high, how sure; a click shows that slice of the stack."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from napari.layers import Image, Layer

from hybridfusion_core.fusion.products import PRODUCTS
from napari_hybridfusion.result.edge_on import EdgeOn
from napari_hybridfusion.result.shown import explaining, results_of, shows_result, together, window_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

_STILL = 3  # px that a hand may move during a click
_FORWARDS = 2  # axes from the end, of a stack whose axes nobody named


def attend(viewer: ViewerModel) -> Probe:
    """Let the pointer read results in a window from now on, whatever docks are open; return what does it."""
    window = window_of(viewer)
    for callback in window.mouse_drag_callbacks:
        if isinstance(probe := getattr(callback, "__self__", None), Probe):
            return probe
    return Probe(window)


def z_axis(viewer: ViewerModel) -> int | None:
    """Return the axis of the sliders along which the slices of the selected stack or result lie; None without one."""
    layer = viewer.layers.selection.active
    active = results_of(viewer).active()
    if active is not None and (depth := active[0].depth()) is not None:
        return int(viewer.dims.ndim - depth[0])
    labels = () if layer is None else tuple(layer.axis_labels)
    if "z" in labels and layer is not None:
        return int(viewer.dims.ndim - layer.ndim + labels.index("z"))
    return viewer.dims.ndim - _FORWARDS - 1 if viewer.dims.ndim > _FORWARDS else None


class Probe:
    """Watches the pointer over results.

    The status bar is napari's own; the probe adds to what it says of the selected layer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        # The window holds the probe, among what is called when the mouse is pressed; not the other way round.
        self._viewer_ref, self._results = ref(viewer), results_of(viewer)
        self._edge_on = EdgeOn(viewer)
        self._aside: list[Layer] = []  # hidden, so that a slice can be seen
        # After the window's own listener, which writes down what it was called with.
        viewer.events.status.connect(self._on_status, position="last")
        viewer.mouse_drag_callbacks.append(self._on_press)

    @property
    def _viewer(self) -> ViewerModel:
        viewer = self._viewer_ref()
        assert viewer is not None  # noqa: S101 - it is the window's own
        return viewer

    def values(self, position: Sequence[float]) -> dict[str, float]:
        """Return what the selected result says of a place, be it just fused or opened from a file.

        Args:
            position: in the world, one number per axis of the viewer.

        Returns:
            Values by product, "decision", "height_um" and so on; NaN where nothing is in focus. Empty where there is
            no result.
        """
        layer = self._viewer.layers.selection.active
        layers = {} if layer is None else explaining(self._viewer, layer)
        found = {name: _value(each, position) for name, each in layers.items()}
        return {name: value for name, value in found.items() if value is not None}

    def jump(self, position: Sequence[float]) -> None:
        """Show the slice that the selected result took a place from: the slider moves, the result steps aside."""
        self.show(int(self.values(position).get("decision", 0)))

    def show(self, number: int) -> None:
        """Show a slice of the selected result's stack, counted from 1; nothing changes where there is none."""
        self.come_back()
        slices = self._slices(number) if number else None
        if slices is None:
            return
        behind, start, step = slices  # axes from the last one
        self._viewer.dims.set_point(self._viewer.dims.ndim - behind, start + (number - 1) * step)
        layer = self._viewer.layers.selection.active
        if layer is not None:
            self._aside = [each for each in together(self._viewer, layer) if each.visible]
            for each in self._aside:
                each.visible = False

    def toggle(self, position: Sequence[float]) -> None:
        """Show the slice behind a place, or the result again if it stepped aside."""
        if any(each in self._viewer.layers for each in self._aside):
            self.come_back()
        else:
            self.jump(position)

    def come_back(self) -> None:
        """Show the result again that stepped aside."""
        for each in self._aside:
            if each in self._viewer.layers:
                each.visible = True
        self._aside = []

    def _slices(self, number: int) -> tuple[int, float, float] | None:
        """Return where the slices of the selected result's stack lie: which axis from the end, first place, step.

        A result that was just fused knows its stack. Of one that was opened from a file it is the uppermost stack with
        a Z axis, the same plane and at least so many slices.
        """
        active, layer = self._results.active(), self._viewer.layers.selection.active
        if active is not None:
            return active[0].depth()
        for each in reversed(self._viewer.layers):
            labels = tuple(each.axis_labels)
            if "z" not in labels or not isinstance(each, Image) or each.rgb or layer is None or shows_result(each):
                continue
            axis = labels.index("z")
            levels = [each.data[0] if each.multiscale else each.data, layer.data[0] if layer.multiscale else layer.data]
            if levels[0].shape[axis] >= number and levels[0].shape[-2:] == levels[1].shape[-2:]:
                return len(labels) - axis, float(each.translate[axis]), float(each.scale[axis])
        return None

    def _on_status(self, _event: object) -> None:
        status: Any = self._viewer.status
        said = str(status["coordinates"] if isinstance(status, dict) else status)
        text = describe(self.values(self._viewer.cursor.position))
        if not text or said.endswith(text):  # what is set here comes back here
            return
        said = text if said in ("", "Ready") else f"{said}; {text}"
        self._viewer.status = {**status, "coordinates": said} if isinstance(status, dict) else said

    def _on_press(self, _viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        if event.button != 1 or event.modifiers:
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            if np.hypot(*(np.asarray(event.pos) - start)) > _STILL:  # a drag moves the picture
                return
            yield
        self.toggle(event.position)


def describe(values: dict[str, float]) -> str:
    """Say in words what a result knows of a place; nothing of what is not known there.

    Slices are counted from 1; napari's sliders count from 0, and their number is said too.
    """
    if not values:
        return ""
    by_hand = ["corrected by hand"] if values.get("corrected", 0) > 0 else []
    formats = _formats()
    if values.get("decision") == 0 or all(np.isnan(values[name]) for name in formats if name in values):
        return ", ".join(["nothing in focus", *by_hand])
    known = [name for name in formats if not np.isnan(values.get(name, np.nan))]
    texts = [formats[name].format(values[name] + (name == "height_slices")) for name in known]
    if "decision" in known:
        texts[known.index("decision")] += f" (slider {values['decision'] - 1:.0f})"
    return ", ".join([*texts, *by_hand])


def _formats() -> dict[str, str]:
    """Return how values are read out, by the names that layers have for products."""
    found = {}
    for name, product in PRODUCTS.items():
        if product.kind == "image":
            continue
        for known_z in (True, False):
            unit = product.unit(known_z=known_z)
            text = f"{product.status} {unit}" if unit == "µm" else product.status
            if unit == "slices":  # counted from 1, as decisions are
                text = text.replace("height ", "height at slice ")
            found[name + product.suffix(known_z=known_z)] = text
    return found


def _value(layer: Layer, position: Sequence[float]) -> float | None:
    """Return a layer's value at a place in the world, or None outside."""
    data = layer.data[0] if layer.multiscale else layer.data
    index = np.rint(layer.world_to_data(np.asarray(position)[-layer.ndim :])).astype(int)
    if np.any(index < 0) or np.any(index >= data.shape):
        return None
    return float(np.asarray(data[tuple(index)]))
