"""One tile: from its pixels to the fused image and everything that explains it.

It knows nothing of where the pixels come from or where the products go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.fusion.blank_slices import kept_slices
from hybridfusion_core.fusion.block import Planes, fill, guide_planes
from hybridfusion_core.fusion.channel_offset import moved_weights
from hybridfusion_core.fusion.device_settings import compiled_network
from hybridfusion_core.fusion.evidence import Evidence
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.projections import to_dtype
from hybridfusion_core.fusion.slab import along_heights
from hybridfusion_core.fusion.tiles import Rect
from hybridfusion_core.model.devices import OPENVINO
from hybridfusion_core.model.focus_measures import has_structure
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.posterior import (
    IN_FOCUS,
    focus_posterior,
    fuse_soft,
    fuse_valid,
    fusion_weights,
    in_focus_probability,
    most_probable,
)
from hybridfusion_core.stack import Stack

_DOUBT = 0.01  # of every slice near a surface, whatever its posterior: how wrong that may be
_CLASSICAL_SHARPNESS = 4.0  # classical weights are energies to this power


@dataclass(frozen=True)
class FusedTile:
    """Products of one tile's core, Y X each.

    Attributes:
        fused: by channel.
        explained: decision and maps by the name of the product, in the order of the job's products.
    """

    fused: dict[int, NDArray[Any]]
    explained: dict[str, NDArray[Any]]


class Scored(NamedTuple):
    """What a method says of a window's slices: B Z h w each, in [0, 1], sum one over Z."""

    posterior: Tensor
    weights: Tensor
    in_focus: Tensor | None = None  # B h w in [0, 1], how probable it is that anything is; None: it does not say


class Plane(NamedTuple):
    """What one plane of a result takes from the slices of a tile's core."""

    share: Tensor  # Z h w, or Z 1 1 for all pixels alike, in [0, 1]
    present: Tensor | None = None  # h w in [0, 1], whether there is anything of this plane; None: not known beforehand
    exact: bool = False  # a slice without a share has no part at all, and what is in focus there is not in this plane


def fuse_tile(
    job: Job,
    stack: Stack,
    decider: Decider,
    planes: Planes,
    statistics: FieldStatistics | None,
    tile: Rect,
    wanted: Sequence[Plane | None] = (None,),
) -> list[FusedTile]:
    """Fuse one tile.

    Args:
        job: what to do.
        stack: for what it says of its channels and slices; it is not read.
        decider: which channels decide, and for which.
        planes: of the tile's window, Z h w by channel.
        statistics: of the whole field; None for a projection.
        tile: says where the core lies in the window.
        wanted: what each plane of the result takes from the slices; None takes everything.

    Returns:
        One for each plane of the result.
    """
    core = (slice(None), tile.y.core_in_window, tile.x.core_in_window)
    served = {channel: planes[channel][core] for channel in decider.serves}
    if (project := job.method.project) is not None:
        return [FusedTile({channel: project(counts) for channel, counts in served.items()}, {})]
    assert statistics is not None  # noqa: S101 - narrows the type
    with torch.inference_mode():
        scored, structure = score_window(job, stack, decider, planes, statistics)
        says = None if structure is None else structure.float() if scored.in_focus is None else scored.in_focus
        cut = Scored(scored.posterior[core], scored.weights[core], None if says is None else says[core[1:]])
        found = None if structure is None else structure[core[1:]]
        return [
            _fused_plane(job, stack, decider, served, statistics, *_taken(job, plane, cut, found)) for plane in wanted
        ]


def _taken(job: Job, plane: Plane | None, scored: Scored, structure: Tensor | None) -> tuple[Scored, Tensor | None]:
    """Take the part of the evidence that belongs to one plane of the result; Z h w each (in_focus, structure: h w)."""
    if plane is None:
        return scored, structure
    mass, present = (scored.posterior * plane.share).sum(dim=0), plane.present
    if plane.exact:
        present = mass
    # What no slice of this plane shows is decided by the plane alone; an invalid pixel stays without a share.
    floor = _DOUBT * (scored.posterior > 0) if job.request.nan == "ignore" else _DOUBT
    least = floor if not plane.exact else 1e-9
    posterior, weights = (
        part / part.sum(dim=0, keepdim=True).clamp(min=torch.finfo(part.dtype).tiny)
        for part in (torch.clamp(each, min=least) * plane.share for each in (scored.posterior, scored.weights))
    )
    if structure is None or scored.in_focus is None or present is None:
        return Scored(posterior, weights, scored.in_focus), structure
    in_focus = scored.in_focus * present
    return Scored(posterior, weights, in_focus), structure & (in_focus > IN_FOCUS)


def _fused_plane(
    job: Job,
    stack: Stack,
    decider: Decider,
    served: Planes,
    statistics: FieldStatistics,
    scored: Scored,
    structure: Tensor | None,
) -> FusedTile:
    """Fuse one plane of a tile's core."""
    kept, (posterior, weights, in_focus) = kept_slices(job, statistics), scored
    if job.request.select == "hard":
        chosen = most_probable(posterior[None])  # 1 h w
        weights = torch.zeros_like(posterior).scatter_(0, chosen, 1)
    evidence = None
    if (structure is not None and in_focus is not None) or job.projections:
        found = torch.ones(posterior.shape[1:], dtype=torch.bool) if structure is None else structure
        known = found.float() if in_focus is None else in_focus
        scorer = decider.model if job.method.energy is None else None
        line = None if scorer is None else scorer.network.confidence_line
        evidence = _evidence(job, stack, kept, posterior, weights, found, known, line)
    fused = {}
    for channel in decider.serves:
        if evidence is not None and channel in job.projections:
            fused[channel] = _projected(job, stack, served[channel], evidence, channel)
            continue
        counts = served[channel] if len(kept) == len(job.slices) else served[channel][kept]
        valid = _valid(job, counts, [kept.index(position) for position in _blank_of(job, statistics, channel)])
        own = weights if channel not in job.offsets else _at_own_focus(job, stack, kept, weights, channel)
        if job.request.select == "hard":
            picked, own_chosen = (posterior, chosen) if own is weights else (own, most_probable(own[None]))
            fused[channel] = _copied(picked, own_chosen, counts, valid)
        else:
            fused[channel] = _averaged(own, counts, valid)
    if structure is None or evidence is None:
        return FusedTile(fused, {})
    return FusedTile(fused, _explained(job, evidence))


def _projected(job: Job, stack: Stack, counts: NDArray[Any], evidence: Evidence, channel: int) -> NDArray[Any]:
    """Read one channel, Z Y X of the job's slices, along the height; 0 where nothing is in focus."""
    z_um = None if stack.z_um is None else stack.z_um[list(job.slices)]
    heights = evidence.height()[0].cpu().numpy()
    if z_um is None:  # heights count the file's slices, counts those that are fused
        z_um = np.asarray(job.slices, np.float64)
    step = float(np.median(np.abs(np.diff(z_um)))) if len(z_um) > 1 else 1.0
    values = along_heights(job.projections[channel], lambda number: counts[number], heights, z_um, len(counts), step)[0]
    dtype = np.dtype(np.float32) if job.to_float else counts.dtype
    return to_dtype(np.where(np.isfinite(values), values, 0), dtype)


def _at_own_focus(job: Job, stack: Stack, kept: list[int], weights: Tensor, channel: int) -> Tensor:
    """Weights of a channel that is in focus at another height than the one that decides."""
    assert stack.z_um is not None  # noqa: S101 - an offset in µm is refused without
    z_um = stack.z_um[[job.slices[position] for position in kept]]
    return moved_weights(weights, z_um, job.offsets[channel].um, whole=job.request.select == "hard")


def score_window(
    job: Job,
    stack: Stack,
    decider: Decider,
    planes: Planes,
    statistics: FieldStatistics,
    *,
    structure: bool = False,
) -> tuple[Scored, Tensor | None]:
    """Score the slices of a window that are not blank; see `kept_slices`.

    Args:
        job: what to do.
        stack: for what it says of its channels.
        decider: which channels decide.
        planes: of the window, Z h w by channel.
        statistics: of the whole field.
        structure: say where the window has structure also if no product needs that.

    Returns:
        Z h w each (in_focus: h w); and where it has structure, h w, bool, if a product needs that.
    """
    guide, invalid = fill(
        statistics.guide(guide_planes(stack, decider, _without_blank(job, decider, planes, statistics)))
    )
    stacked = torch.from_numpy(guide)[None].to(job.device)  # Z h w -> 1 Z h w
    noise = torch.tensor([statistics.noise], dtype=torch.float32, device=job.device)
    scored = score(job, decider, stacked, noise)
    posterior, weights = scored.posterior[0], scored.weights[0]
    in_focus = None if scored.in_focus is None else scored.in_focus[0]
    found = None
    if structure or job.projections or job.products != ("fused",):
        found = has_structure(stacked, noise)[0] if in_focus is None else in_focus > IN_FOCUS
    if invalid is not None:
        blocked = torch.from_numpy(invalid).to(job.device)
        nowhere = blocked.all(dim=0)
        posterior = posterior.masked_fill(blocked, 0)
        found = None if found is None else found & ~nowhere
        in_focus = None if in_focus is None else in_focus.masked_fill(nowhere, 0)
    return Scored(posterior, weights, in_focus), found


def score(job: Job, decider: Decider, guide: Tensor, noise: Tensor) -> Scored:
    """Score the slices of a guide by the job's method.

    Args:
        job: says which method, and how.
        decider: whose guide it is; says which network.
        guide: 1 Z h w; h and w multiples of the lattice.
        noise: 1, standard deviation of the noise in `guide`.

    Returns:
        1 Z h w each (in_focus: 1 h w).
    """
    if (energy := job.method.energy) is not None:
        return _by_energy(energy, guide)
    assert decider.model is not None  # noqa: S101 - narrows the type
    network = decider.model.network
    if job.runtime.package == OPENVINO:
        scores = compiled_network(job, network)(guide, noise, job.geometry.halo)
    else:
        low = job.request.precision == "bfloat16"
        with torch.autocast(job.device.type, dtype=torch.bfloat16) if low else nullcontext():
            scores = network(guide, noise, job.plan.z_chunk)
    scores = scores._replace(focus=scores.focus.float(), spread=scores.spread.float())
    in_focus = None if scores.in_focus is None else in_focus_probability(scores, network.in_focus_line).float()
    return Scored(focus_posterior(scores, network.temperature), fusion_weights(scores), in_focus)


def _by_energy(measure_focus: Callable[[Tensor], Tensor], guide: Tensor) -> Scored:
    energy = torch.empty_like(guide)  # and in place: a deep stack fills memory faster than it is computed
    for z, plane in enumerate(guide.unbind(dim=1)):
        energy[:, z] = measure_focus(plane)
    posterior = energy.clamp_(min=torch.finfo(energy.dtype).tiny).log_().mul_(_CLASSICAL_SHARPNESS).softmax(dim=1)
    return Scored(posterior, posterior)


def _without_blank(job: Job, decider: Decider, planes: Planes, statistics: FieldStatistics) -> Planes:
    """Leave blank slices out of what decides; where only some channels are saturated, they say nothing there."""
    if not (statistics.blank or statistics.blank_of):
        return planes
    kept, left = kept_slices(job, statistics), {}
    for index, channel in enumerate(decider.guide):
        counts = planes[channel].copy()
        for position in _blank_of(job, statistics, channel):
            counts[position] = statistics.models[min(index, len(statistics.models) - 1)].low  # colours have one model
        left[channel] = counts[kept]
    return left


def _blank_of(job: Job, statistics: FieldStatistics, channel: int) -> list[int]:
    """Positions in the job's slices of those that are blank in one channel alone."""
    return [job.slices.index(number) for of, number in statistics.blank_of if of == channel]


def _valid(job: Job, counts: NDArray[Any], blank: list[int]) -> NDArray[np.bool_] | None:
    """Where counts, Z Y X, may be fused: in slices that are not blank, and finite; None if everywhere."""
    ignoring = job.request.nan == "ignore" and counts.dtype.kind == "f"
    if not (ignoring or blank):
        return None
    valid = np.isfinite(counts) if ignoring else np.ones(counts.shape, dtype=bool)
    valid[blank] = False
    return None if valid.all() else valid


def _copied(posterior: Tensor, chosen: Tensor, counts: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Copy each pixel of one channel, Z Y X, from the chosen slice, 1 Y X, or the most probable one that is valid."""
    if valid is not None:
        chosen = most_probable(posterior.masked_fill(torch.from_numpy(~valid).to(posterior.device), -1)[None])
    return np.asarray(np.take_along_axis(counts, chosen.cpu().numpy(), axis=0)[0])


def _averaged(weights: Tensor, counts: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Average one channel's counts, Z Y X, in its own dtype."""
    # float32 holds neither every int32 and uint32 nor a float64; such counts are added up on the CPU.
    wide = counts.dtype.itemsize > (4 if counts.dtype.kind == "f" else 2)
    slices = torch.from_numpy(counts.astype(np.float64 if wide else np.float32))
    weights = weights.cpu().double() if wide else weights
    slices = slices.to(weights.device)
    if valid is None:
        fused = fuse_soft(weights[None], slices[None])[0]
    else:
        fused = fuse_valid(weights[None], slices[None], torch.from_numpy(valid).to(weights.device)[None])[0]
    return to_dtype(fused.cpu().numpy(), counts.dtype)


def _evidence(
    job: Job,
    stack: Stack,
    kept: list[int],
    posterior: Tensor,
    weights: Tensor,
    structure: Tensor,
    in_focus: Tensor,
    line: Tensor | None,
) -> Evidence:
    """Gather what is known of a tile's core; posterior and weights Z Y X of the kept slices, others Y X."""
    slices = [job.slices[position] for position in kept]
    # Slices are numbered as in the file, also when only some of them are fused.
    numbers = torch.tensor((0, *(index + 1 for index in slices)), device=posterior.device)
    known = np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um
    positions = torch.tensor(known[slices], dtype=torch.float32, device=posterior.device)
    line = None if line is None else line.to(posterior.device)
    return Evidence(posterior[None], weights[None], structure[None], in_focus[None], numbers, positions, line)


def _explained(job: Job, evidence: Evidence) -> dict[str, NDArray[Any]]:
    explained = {}
    for name in job.products:
        product = PRODUCTS[name]
        if product.compute is not None:
            dtype = np.uint16 if product.kind == "labels" else np.float32
            explained[name] = product.compute(evidence)[0].cpu().numpy().astype(dtype, copy=False)
    return explained
