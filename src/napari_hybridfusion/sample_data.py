"""Samples of napari's File menu, made in memory."""

from __future__ import annotations

from hybridfusion_core.samples import organoid_stack, pair_stack
from napari_hybridfusion.layers import LayerData, stack_layers


def organoid() -> list[LayerData]:
    """Return a synthetic organoid: a focal stack of two channels."""
    return stack_layers(organoid_stack())


def pair() -> list[LayerData]:
    """Return two images of one scene, focused near and far, as a stack of two slices."""
    return stack_layers(pair_stack())
