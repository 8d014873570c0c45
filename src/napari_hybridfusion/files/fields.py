"""A field of a plate as layers."""

from __future__ import annotations

from pathlib import Path

from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import PlateField
from napari_hybridfusion.files.reader import read
from napari_hybridfusion.layers.pyramids import plane_levels
from napari_hybridfusion.layers.stacks import LayerData, stack_layers


def field_layers(unit: PlateField) -> list[LayerData]:
    """Return one field as layers; its pixels are left on disk.

    Raises:
        HybridFusionError: the field has defects, or a file is damaged.
    """
    image = None if unit.frame.image is None else Path(unit.folder) / unit.frame.image.path
    if image is not None and image.is_dir():
        return read(str(image))  # with its pyramid
    stack = open_field(unit)
    return stack_layers(stack, plane_levels(stack))
