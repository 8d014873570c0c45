"""For scripts and notebooks: fuse a layer, and show what `hybridfusion_core.fuse` returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from napari.layers import Layer

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.products import default_products
from hybridfusion_core.fusion.result import FuseResult
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack
from napari_hybridfusion.job.run import fusing
from napari_hybridfusion.job.task import Choices, prepare
from napari_hybridfusion.layers.results import result_layers
from napari_hybridfusion.layers.sources import Frame, Source
from napari_hybridfusion.layers.stacks import LayerData, shown_unit, stack_layers
from napari_hybridfusion.result.probe import attend

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image


def fuse_layer(
    layer: Image,
    *,
    others: Sequence[Image] = (),
    axes: str | None = None,
    z_step_um: float | None = None,
    products: Sequence[str] | None = None,
    **options: Any,
) -> list[LayerData]:
    """Fuse an image layer, as *Fuse focal stack* does, and return the result as layers.

    Args:
        layer: the focal stack, or the first image of a pair.
        others: further channels of the same stack; for layers without a Z axis the other slices.
        axes: what the axes of the layer are, such as "TZYX"; None takes what the layer says.
        z_step_um: distance between slices in µm, where the layer does not know it.
        products: names of the products to make; None makes the usual ones.
        **options: fields of `hybridfusion_core.FuseRequest`, such as `model` or `select`.

    Returns:
        Layer data tuples: the fused image of each channel, then its maps and its decision, hidden. They lie on the
        layer: `viewer.add_layer(Layer.create(*each))` shows one.

    Raises:
        UserInputError: the layer cannot be fused, an option is unfit, or the result has several planes along Z.
    """
    wanted = tuple(products) if products is not None else default_products()
    task = prepare(
        Choices(
            layer=layer,
            others=tuple(others),
            axes=axes,
            z_step_um=z_step_um,
            products=tuple(name for name in wanted if name != "fused"),
            options=tuple(options.items()),
        )
    )
    _refuse_several_planes(task.job.depth)
    fused = run_to_end(fusing(task), None)
    return _of_one_result(result_layers(fused.spec, fused.levels, task.source))


def show_result(viewer: ViewerModel, result: FuseResult | Sequence[LayerData]) -> list[Layer]:
    """Show a result in a viewer.

    Args:
        viewer: gets the layers.
        result: what `hybridfusion_core.fuse` returned, or what `fuse_layer` did.

    Returns:
        The layers that were added; the fused image is selected, and the pointer reads it.
    """
    found = _of_one_result(_layers(result)) if isinstance(result, FuseResult) else list(result)
    layers = [Layer.create(*each) for each in found]
    for each in layers:
        viewer.add_layer(each)
    if layers:
        viewer.layers.selection.active = layers[0]
        attend(viewer)
    return layers


def _refuse_several_planes(depth: int) -> None:
    """Refuse results that are stacks again: layers of one fused plane would put their planes at wrong heights."""
    if depth > 1:
        raise UserInputError(
            f"The result has {depth} planes along Z, of slabs or of two surfaces; expected one, which lies on its "
            "stack. Write it with hybridfusion_core.fuse_to and open the file, whose planes have their heights."
        )


def _layers(result: FuseResult) -> list[LayerData]:
    """Lay a result on the slices that it was made from, as if its stack were in the window."""
    spec = result.spec
    _refuse_several_planes(spec.depth)
    array = np.asarray(result.arrays["fused"])  # T C 1 Y X
    stack = Stack(array, "TCZYX", spec.name, spec.channels, t=spec.t, z=spec.z, y=spec.y, x=spec.x, rgb=spec.rgb)
    frames, _, rows, columns = spec.shape
    shown = "TZYX" if frames > 1 else "ZYX"
    steps = {"T": spec.t, "Z": spec.z, "Y": spec.y, "X": spec.x}
    lengths = {"T": frames, "Z": spec.slices, "Y": rows, "X": columns}
    others = {
        "axis_labels": tuple(shown.lower()),
        "units": tuple(shown_unit(steps[letter]) for letter in shown),
    }
    frame = Frame(
        shown,
        tuple(lengths[letter] for letter in shown),
        tuple(steps[letter].step for letter in shown),
        (0.0,) * len(shown),
        others,
    )
    names = ("colormap", "contrast_limits")
    looks = tuple({key: about[key] for key in names if key in about} for _, about, _ in stack_layers(stack))
    return result_layers(spec, {name: [each] for name, each in result.arrays.items()}, Source(stack, frame, looks))


def _of_one_result(layers: list[LayerData]) -> list[LayerData]:
    """Write into the metadata that the layers belong together, so that the pointer reads them as one result."""
    token = uuid4().hex
    for _, about, _ in layers:
        about["metadata"]["hybridfusion"]["result"] = token
    return layers
