"""A result as layers that line up with the layers it was made from.

Every slider axis of the source stays, so that napari, which aligns layers by their last axes, never mixes them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.io.palette import slice_colors
from hybridfusion_core.io.result_spec import ResultSpec
from napari_hybridfusion.layers.depth import Depth
from napari_hybridfusion.layers.sources import Frame, Source
from napari_hybridfusion.layers.stacks import LayerData, decision_look, image_layer, sampled_limits

Levels = Mapping[str, Sequence[Any]]

# A fused plane is one voxel as thick as its stack: in three dimensions it would stand there as a block.
THIN = {"depiction": "plane", "plane": {"position": (0.0, 0.0, 0.0), "normal": (1.0, 0.0, 0.0), "thickness": 1.0}}


def result_layers(spec: ResultSpec, levels: Levels, source: Source) -> list[LayerData]:
    """Show a result beside its source: the fused image, and hidden above it the maps and the decision.

    Args:
        spec: says what the arrays are.
        levels: "fused", "decision" and "maps" those that were made: T C 1 Y X each, and smaller copies of it.
        source: what was fused.

    Returns:
        One layer per product, and one for each channel where the source has a layer for each. Their metadata say
        under "hybridfusion" which product they are, of which decision, how the result was made, and what their axes
        and the slices of the stack are.
    """
    source = _as_cropped(spec, source)
    return [
        *fused_layers(spec, levels["fused"], source),
        *_maps(spec, levels.get("maps", ()), source),
        *_decisions(spec, levels.get("decision", ()), source),
    ]


def _as_cropped(spec: ResultSpec, source: Source) -> Source:
    """Return the part of a source that all slices covered once they were aligned, if the result was cropped to it."""
    alignment = (spec.provenance.get("treatment") or {}).get("alignment") or {}
    if "frame" not in alignment:
        return source
    y, x = ((int(start), int(stop)) for start, stop in (alignment["frame"]["y"], alignment["frame"]["x"]))
    return replace(source, frame=source.frame.part(Y=(y[0], y[1]), X=(x[0], x[1])))


def fused_layers(spec: ResultSpec, levels: Sequence[Any], source: Source, title: str = "fused") -> list[LayerData]:
    """Show planes T C 1 Y X in the colours and the contrast of what they were made from.

    Args:
        spec: says what they are.
        levels: their pixels, and smaller copies.
        source: what they were made from.
        title: what to call them behind the names of the source.
    """
    whole = spec.rgb or "C" in source.frame.axes
    layers = []
    for index, (name, look) in enumerate(zip(fused_names(source, title), source.looks, strict=True)):
        views = plane_views(levels, source.frame, None if whole else index, colours=spec.rgb)
        about = {
            **look,
            **_placed(views[0], source.frame, colours=spec.rgb),
            "name": name,
            "rgb": spec.rgb,
            "blending": "additive" if index else "translucent_no_depth",
            "metadata": _metadata(title, index if len(spec.decision_channels) > 1 else 0, spec, source),
        }
        if not spec.rgb and "contrast_limits" in about:
            about["contrast_limits"] = fitting(about["contrast_limits"], views[-1])
        layers.append(image_layer(views, about))
    return layers


def product_title(kind: str) -> str:
    """Return what a layer of a product is called, with the unit that its file name has: "height (µm)"."""
    for name, product in PRODUCTS.items():
        for known_z in (True, False):
            if kind == name + product.suffix(known_z=known_z):
                unit = product.unit(known_z=known_z)
                return f"{product.title} ({unit})" if unit else product.title
    return "by hand" if kind == "corrected" else kind.replace("_", " ")


def product_colormap(kind: str) -> str:
    """Return the colours of a product's map."""
    found = (product for name, product in PRODUCTS.items() if kind in (name, f"{name}_um", f"{name}_slices"))
    return next((product.colormap for product in found), "viridis")


def fused_names(source: Source, title: str = "fused") -> list[str]:
    """Return the names that the layers of `fused_layers` get."""
    stack = source.stack
    own = len(source.looks) == len(stack.channels) and len(stack.channels) > 1
    names = [channel.name for channel in stack.channels] if own else [source.name]
    return [f"{name} {title}" for name in names]


def fitting(limits: Sequence[float], view: Any) -> tuple[float, float]:
    """Keep contrast limits under which a plane can be seen, and replace those under which it is black or white."""
    low, high = float(limits[0]), float(limits[1])
    dark, bright = sampled_limits(view)
    fits = low <= dark + (bright - dark) / 2 and (bright - low) > (high - low) / 3 and bright <= high * 2
    return (low, high) if fits else (dark, bright)


def _maps(spec: ResultSpec, levels: Sequence[Any], source: Source) -> Iterator[LayerData]:
    kinds = list(dict.fromkeys(channel.name.split(" ")[0] for channel in spec.maps))
    count = len(spec.maps) // max(len(kinds), 1)
    for number, kind in enumerate(kinds):
        title, window = product_title(kind), spec.maps[number * count].window
        look = {"colormap": product_colormap(kind), "contrast_limits": window if window[0] < window[1] else (0, 1)}
        chosen = [level[:, number * count : (number + 1) * count] for level in levels]
        yield from _explaining(kind, title, chosen, count, look, spec, source)


def _decisions(spec: ResultSpec, levels: Sequence[Any], source: Source) -> Iterator[LayerData]:
    if levels:
        colors: NDArray[Any] = np.array(slice_colors(spec.slices), dtype=np.float64) / 255
        count = len(spec.decision_channels)
        yield from _explaining("decision", "decision", levels, count, decision_look(colors), spec, source)


def _explaining(
    kind: str,
    title: str,
    levels: Sequence[Any],
    count: int,
    look: Mapping[str, Any],
    spec: ResultSpec,
    source: Source,
) -> Iterator[LayerData]:
    """Yield the layers of one product besides the fused image, hidden because they would cover it."""
    together = "C" in source.frame.axes
    for index in range(1 if together else count):
        name = source.name if together or count == 1 else source.stack.channels[index].name
        views = plane_views(levels, source.frame, None if together else index)
        about = {
            **look,
            **_placed(views[0], source.frame),
            "name": f"{name} {title}",
            "visible": False,
            "metadata": _metadata(kind, index, spec, source),
        }
        yield image_layer(views, about)


def _metadata(product: str, decided: int, spec: ResultSpec, source: Source) -> dict[str, Any]:
    about = {
        "product": product,
        "decision": decided,
        "provenance": dict(spec.provenance),
        "axes": source.frame.axes,
        "depth": Depth(spec.slices, spec.z, source.stack.z_positions_um),
    }
    return {"hybridfusion": about}


def _placed(view: Any, frame: Frame, *, colours: bool = False) -> dict[str, Any]:
    shape = view.shape[:-1] if colours else view.shape
    return {**frame.place(shape), **(THIN if "Z" in frame.axes else {})}


def plane_views(levels: Sequence[Any], frame: Frame, channel: int | None, *, colours: bool = False) -> list[Any]:
    """Give arrays T C 1 Y X the axes of a frame; one channel of them, or all where C is an axis or a colour."""
    shown = frame.axes + ("C" if colours else "")
    kept = [letter for letter in "TCZYX" if letter in shown]
    index = tuple(slice(None) if letter in shown else (channel or 0) if letter == "C" else 0 for letter in "TCZYX")
    return [level[index].transpose([kept.index(letter) for letter in shown]) for level in levels]
