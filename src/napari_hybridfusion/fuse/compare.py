"""What one would have without the network: the sharpest slice, the maximum projection, a classical fusion."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers
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
from napari_hybridfusion.layers.results import fused_layers, fused_names
from napari_hybridfusion.layers.sources import Source

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


def show_comparison(viewer: ViewerModel, found: Comparison, source: Source) -> list[Layer]:
    """Add a comparison beside the fused image, in a grid, all with the same contrast.

    Returns:
        The layers that were added.
    """
    fused = _fused_of(source, viewer)
    place = viewer.layers.index(fused[-1]) + 1 if fused else len(viewer.layers)
    selected = viewer.layers.selection.active
    added: list[Layer] = []
    for title, spec, pixels in found:
        for data, about, kind in fused_layers(spec, [pixels], source, title):
            added.append(Layer.create(data, about, kind))
            viewer.layers.insert(place + len(added) - 1, added[-1])
    channels = len(source.looks)
    if not source.stack.rgb:
        for index in range(channels):
            link_layers([*fused[index::channels], *added[index::channels]], ("contrast_limits",))
    viewer.layers.selection.active = selected  # where the pointer reads
    # The channels of one image share a cell.
    viewer.canvas.grid.stride = channels
    viewer.canvas.grid.enabled = True
    return added


def _fused_of(source: Source, viewer: ViewerModel) -> list[Layer]:
    """Return the latest fused layers of a source, one per channel; none if one of them is gone."""
    shown = [each for each in viewer.layers if each.metadata.get("hybridfusion", {}).get("product") == "fused"]
    # napari numbers a name that exists already: "DAPI fused [1]".
    found = [[each for each in shown if each.name.split(" [")[0] == name] for name in fused_names(source)]
    return [each[-1] for each in found] if all(found) else []


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
