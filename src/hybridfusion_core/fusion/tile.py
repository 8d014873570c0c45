"""One tile: from its pixels to the fused image and everything that explains it.

It knows nothing of where the pixels come from or where the products go. On a CPU it works with NumPy's arrays, and
slices and rows are dealt out to threads; on a GPU with PyTorch's tensors. What a method says of a window is in
`fusion/window.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.blank_slices import blank_of, kept_slices
from hybridfusion_core.fusion.block import Planes
from hybridfusion_core.fusion.channel_offset import moved_weights
from hybridfusion_core.fusion.evidence import Evidence
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.projections import to_dtype
from hybridfusion_core.fusion.slab import along_heights
from hybridfusion_core.fusion.tiles import Rect
from hybridfusion_core.fusion.window import Window, score_window
from hybridfusion_core.model.arrays import Array, like, namespace, tiny, to_numpy
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.posterior import IN_FOCUS, fuse_soft, fuse_valid, most_probable
from hybridfusion_core.model.threads import lanes, thread_count
from hybridfusion_core.stack import Stack

_DOUBT = 0.01  # of every slice near a surface, whatever its posterior: how wrong that may be
_BAND = 1 << 17  # values of a band of rows, all slices: what is made of them stays in a core's cache


@dataclass(frozen=True)
class FusedTile:
    """Products of one tile's core, Y X each.

    Attributes:
        fused: by channel.
        explained: decision and maps by the name of the product, in the order of the job's products.
    """

    fused: dict[int, NDArray[Any]]
    explained: dict[str, NDArray[Any]]

    @classmethod
    def joined(cls, bands: Sequence[FusedTile]) -> FusedTile:
        """Bands of rows, from the top down, as one."""
        first = bands[0]
        fused = {channel: np.concatenate([band.fused[channel] for band in bands]) for channel in first.fused}
        explained = {name: np.concatenate([band.explained[name] for band in bands]) for name in first.explained}
        return cls(fused, explained)


class Plane(NamedTuple):
    """What one plane of a result takes from the slices of a tile's core."""

    share: NDArray[np.float32]  # Z h w, or Z 1 1 for all pixels alike, in [0, 1]
    present: NDArray[np.float32] | None = None  # h w in [0, 1], whether it is there; None: not known
    exact: bool = False  # a slice without a share has no part at all, and what is in focus there is not in this plane

    def part(self, rows: slice) -> Plane:
        """Take some rows."""
        share = self.share if self.share.shape[1] == 1 else self.share[:, rows]
        return self._replace(share=share, present=None if self.present is None else self.present[rows])


class Evident(NamedTuple):
    """What is known of some pixels of a plane of the result: Z h w; and h w if that was asked for."""

    posterior: Array
    weights: Array
    in_focus: Array | None
    structure: Array | None


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
    window = score_window(job, stack, decider, planes, statistics)
    window = window.part(tile.y.core_in_scores, tile.x.core_in_scores)

    def fuse_rows(rows: slice) -> list[FusedTile]:
        seen = window.part(rows, slice(None))
        counts = {channel: each[:, rows] for channel, each in served.items()}
        taken = [_taken(job, plane and plane.part(rows), seen) for plane in wanted]
        return [_fused_plane(job, stack, decider, counts, statistics, evident) for evident in taken]

    height, width = tile.y.stop - tile.y.start, tile.x.stop - tile.x.start
    if job.device != "cpu":
        return fuse_rows(slice(0, height))
    together = max(_BAND // (len(job.slices) * width), 8)
    bands: dict[int, list[FusedTile]] = {}

    def fuse_band(rows: slice) -> None:
        bands[rows.start] = fuse_rows(rows)

    lanes(thread_count(job.request.threads)).rows(fuse_band, height, together)
    return [FusedTile.joined(each) for each in zip(*(bands[start] for start in sorted(bands)), strict=True)]


def _taken(job: Job, plane: Plane | None, seen: Window) -> Evident:
    """Take the part of the evidence that belongs to one plane of the result."""
    scored, weighted = seen.posterior(), seen.weights()
    if plane is None:
        return Evident(scored, weighted, seen.in_focus, seen.structure)
    xp = namespace(scored)
    share = like(plane.share, scored)
    present = None if plane.present is None else like(plane.present, scored)
    if plane.exact:
        present = (scored * share).sum(axis=0)
    # What no slice of this plane shows is decided by the plane alone; an invalid pixel stays without a share.
    floor = _DOUBT * (scored > 0) if job.request.nan == "ignore" else like(np.float32(_DOUBT), scored)
    least = floor if not plane.exact else like(np.float32(1e-9), scored)
    posterior, weights = (
        part / xp.clip(part.sum(axis=0), min=tiny(part))
        for part in (xp.maximum(each, least) * share for each in (scored, weighted))
    )
    if seen.structure is None or seen.in_focus is None or present is None:
        return Evident(posterior, weights, seen.in_focus, seen.structure)
    in_focus = seen.in_focus * present
    return Evident(posterior, weights, in_focus, seen.structure & (in_focus > IN_FOCUS))


def _fused_plane(
    job: Job,
    stack: Stack,
    decider: Decider,
    served: Planes,
    statistics: FieldStatistics,
    evident: Evident,
) -> FusedTile:
    """Fuse one plane of some rows of a tile's core."""
    kept, (posterior, weights, in_focus, structure) = kept_slices(job, statistics), evident
    if job.request.select == "hard":
        chosen = most_probable(posterior[None])  # 1 h w
        xp = namespace(posterior)
        numbers = like(np.arange(len(kept)), posterior)[:, None, None]
        weights = xp.astype(numbers == chosen, posterior.dtype)
    evidence = None
    if in_focus is not None and structure is not None:
        line = None if decider.model is None else decider.model.parameters.confidence_line
        evidence = _evidence(job, stack, kept, posterior, weights, structure, in_focus, line)
    fused = {}
    for channel in decider.serves:
        if evidence is not None and channel in job.projections:
            fused[channel] = _projected(job, stack, served[channel], evidence, channel)
            continue
        counts = served[channel] if len(kept) == len(job.slices) else served[channel][kept]
        valid = _valid(job, counts, [kept.index(position) for position in blank_of(job, statistics, channel)])
        own = weights if channel not in job.offsets else _at_own_focus(job, stack, kept, weights, channel)
        if job.request.select == "hard":
            picked, own_chosen = (posterior, chosen) if own is weights else (own, most_probable(own[None]))
            fused[channel] = _copied(picked, own_chosen, counts, valid)
        else:
            fused[channel] = _averaged(own, counts, valid)
    return FusedTile(fused, {} if evidence is None else _explained(job, evidence))


def _projected(job: Job, stack: Stack, counts: NDArray[Any], evidence: Evidence, channel: int) -> NDArray[Any]:
    """Read one channel, Z Y X of the job's slices, along the height; 0 where nothing is in focus."""
    z_um = None if stack.z_um is None else stack.z_um[list(job.slices)]
    heights = to_numpy(evidence.height()[0])
    if z_um is None:  # heights count the file's slices, counts those that are fused
        z_um = np.asarray(job.slices, np.float64)
    step = float(np.median(np.abs(np.diff(z_um)))) if len(z_um) > 1 else 1.0
    values = along_heights(job.projections[channel], lambda number: counts[number], heights, z_um, len(counts), step)[0]
    dtype = np.dtype(np.float32) if job.to_float else counts.dtype
    return to_dtype(np.where(np.isfinite(values), values, 0), dtype)


def _at_own_focus(job: Job, stack: Stack, kept: list[int], weights: Array, channel: int) -> Array:
    """Weights of a channel that is in focus at another height than the one that decides."""
    assert stack.z_um is not None  # noqa: S101 - an offset in µm is refused without
    z_um = stack.z_um[[job.slices[position] for position in kept]]
    return moved_weights(weights, z_um, job.offsets[channel].um, whole=job.request.select == "hard")


def _valid(job: Job, counts: NDArray[Any], blank: list[int]) -> NDArray[np.bool_] | None:
    """Where counts, Z Y X, may be fused: in slices that are not blank, and finite; None if everywhere."""
    ignoring = job.request.nan == "ignore" and counts.dtype.kind == "f"
    if not (ignoring or blank):
        return None
    valid = np.isfinite(counts) if ignoring else np.ones(counts.shape, dtype=bool)
    valid[blank] = False
    return None if valid.all() else valid


def _copied(posterior: Array, chosen: Array, counts: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Copy each pixel of one channel, Z Y X, from the chosen slice, 1 Y X, or the most probable one that is valid."""
    if valid is not None:
        xp = namespace(posterior)
        chosen = most_probable(xp.where(like(valid, posterior), posterior, -1)[None])
    return np.asarray(np.take_along_axis(counts, to_numpy(chosen), axis=0)[0])


def _averaged(weights: Array, counts: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Average one channel's counts, Z Y X, in its own dtype."""
    # float32 holds neither every int32 and uint32 nor a float64; such counts are added up on the CPU.
    wide = counts.dtype.itemsize > (4 if counts.dtype.kind == "f" else 2)
    weights = to_numpy(weights).astype(np.float64) if wide else weights
    slices = like(counts.astype(np.float64 if wide else np.float32), weights)
    if valid is None:
        fused = fuse_soft(weights[None], slices[None])[0]
    else:
        fused = fuse_valid(weights[None], slices[None], like(valid, weights)[None])[0]
    return to_dtype(to_numpy(fused), counts.dtype)


def _evidence(
    job: Job,
    stack: Stack,
    kept: list[int],
    posterior: Array,
    weights: Array,
    structure: Array,
    in_focus: Array,
    line: NDArray[np.float32] | None,
) -> Evidence:
    """Gather what is known of a tile's core; posterior and weights Z Y X of the kept slices, others Y X."""
    slices = [job.slices[position] for position in kept]
    # Slices are numbered as in the file, also when only some of them are fused.
    numbers = np.array((0, *(index + 1 for index in slices)))
    known = np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um
    positions = np.asarray(known[slices], np.float32)
    given = (None if each is None else like(each, posterior) for each in (numbers, positions, line))
    return Evidence(posterior[None], weights[None], structure[None], in_focus[None], *given)


def _explained(job: Job, evidence: Evidence) -> dict[str, NDArray[Any]]:
    explained = {}
    for name in job.products:
        product = PRODUCTS[name]
        if product.compute is not None:
            dtype = np.uint16 if product.kind == "labels" else np.float32
            explained[name] = to_numpy(product.compute(evidence)[0]).astype(dtype, copy=False)
    return explained
