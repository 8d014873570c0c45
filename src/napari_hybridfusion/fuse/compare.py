"""What one would have without the network: the sharpest slice, the maximum projection, a classical fusion."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers, unlink_layers
from napari.layers import Layer
from numpy.typing import NDArray

from hybridfusion_core.fusion.api import steps_in_memory
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.thumbnails import sharpest_slice
from napari_hybridfusion.job.task import Task
from napari_hybridfusion.layers.results import fused_layers
from napari_hybridfusion.layers.sources import Source
from napari_hybridfusion.result.shown import results_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

Comparison = list[tuple[str, ResultSpec, NDArray[Any]]]


def comparing(task: Task) -> Generator[Progress, None, Comparison]:
    """Make what the network's result is to be compared with, from the same slices and channels.

    Returns:
        (on exhaustion) title, description and pixels, T C 1 Y X, of each.
    """
    classical = yield from _by_method("tenengrad", task)
    brightest = yield from _by_method("max", task)
    spec = brightest.spec
    return [
        ("sharpest slice", spec, _sharpest(task.source.stack, task.job, classical)),
        ("maximum", spec, brightest.arrays["fused"]),
        ("Tenengrad", spec, classical.arrays["fused"]),
    ]


@dataclass(frozen=True)
class Before:
    """A layer as it was before a comparison: whether it was seen, and its name in the canvas."""

    layer: Layer
    visible: bool
    named: bool


@dataclass(frozen=True)
class ShownComparison:
    """A comparison in the window, and what it has to give back.

    Attributes:
        added: its layers.
        before: all layers that there were, in their order.
        grid: stride and whether it was on.
    """

    added: tuple[Layer, ...]
    before: tuple[Before, ...]
    grid: tuple[int, bool]

    def close(self, viewer: ViewerModel) -> None:
        """Take the comparison away, and show what was shown before."""
        for layer in self.added:
            unlink_layers([layer])
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        viewer.canvas.grid.stride, viewer.canvas.grid.enabled = self.grid
        left = [each for each in self.before if each.layer in viewer.layers]
        for index, each in enumerate(left):
            viewer.layers.move(viewer.layers.index(each.layer), index)
            each.layer.visible, each.layer.name_overlay.visible = each.visible, each.named
        viewer.reset_view()


def show_comparison(viewer: ViewerModel, found: Comparison, source: Source) -> ShownComparison:
    """Show a comparison beside the fused image, each in a cell of a grid with its name, all with the same contrast.

    What else was visible is hidden as long as the comparison lasts.
    """
    fused = _fused_of(source, viewer)
    before = tuple(Before(each, bool(each.visible), bool(each.name_overlay.visible)) for each in viewer.layers)
    grid = (int(viewer.canvas.grid.stride), bool(viewer.canvas.grid.enabled))
    selected = viewer.layers.selection.active
    for each in before:
        each.layer.visible = False
    added: list[Layer] = []
    for title, spec, pixels in reversed(found):
        for data, about, kind in fused_layers(spec, [pixels], source, title):
            # What it is stands first: of a long name a cell shows the beginning.
            name = f"{title}: {about['name'].removesuffix(title).rstrip()}"
            added.append(Layer.create(data, {**about, "name": name}, kind))
            viewer.add_layer(added[-1])
    # The grid begins with the uppermost layers: the fused image, then what it is compared with.
    for layer in fused:
        viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    for layer in (*fused, *added):
        layer.visible = layer.name_overlay.visible = True
    channels = len(source.looks)
    if not source.stack.rgb:
        for index in range(channels):
            link_layers([*fused[index::channels], *added[index::channels]], ("contrast_limits",))
    viewer.layers.selection.active = selected  # where the pointer reads
    # The channels of one image share a cell; a negative stride counts from the uppermost layer, whatever lies below.
    viewer.canvas.grid.stride = -channels
    viewer.canvas.grid.enabled = True
    viewer.reset_view()
    return ShownComparison(tuple(added), before, grid)


def _fused_of(source: Source, viewer: ViewerModel) -> list[Layer]:
    """Return the latest fused layers of a source, one per channel; none if one of them is gone."""
    result = results_of(viewer).latest_of(source)
    layers = [] if result is None else [each for each in result.layers if each in viewer.layers]
    found = [each for each in layers if each.metadata["hybridfusion"]["product"] == "fused"]
    return found if len(found) == len(source.looks) else []


def _by_method(method: Any, task: Task) -> Generator[Progress, None, FuseResult]:
    products = ("fused",) if method == "max" else ("fused", "decision")
    job = resolve(replace(task.job.request, method=method, products=products), task.source.stack)
    return (yield from steps_in_memory(job, task.source.stack))


def _sharpest(stack: Stack, job: Job, classical: FuseResult) -> NDArray[Any]:
    """Return the slice of each time point from which most detail would be taken. T C 1 Y X."""
    y, x = (slice(0, length) for length in stack.shape[3:])
    planes = []
    for t, decisions in enumerate(classical.arrays["decision"]):
        z = sharpest_slice(classical.arrays["fused"][t, 0, 0], decisions[0, 0], job.slices)
        planes.append(np.stack([stack.read(t, channel, [z], y, x) for channel in job.channels]))
    return np.stack(planes)
