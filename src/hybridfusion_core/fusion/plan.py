"""The grid of a fusion and how it fits into memory: lattice, halo, and tiles, blocks and Z-chunks for a byte budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.surface_cells import evidence_bytes, solver_bytes
from hybridfusion_core.fusion.tiles import Geometry
from hybridfusion_core.model.focus_measures import structure_reach
from hybridfusion_core.stack import Stack

if TYPE_CHECKING:  # the network's libraries take seconds to import, and classical methods need none of them
    from hybridfusion_core.model.network import NetworkConfig


@dataclass(frozen=True)
class Plan:
    """How a job fits into memory.

    Attributes:
        tile: core of a tile, pixels.
        block: core of a block, pixels; a tile at least.
        z_chunk: slices that pass the network at a time.
        bytes_needed: expected peak beside the interpreter.
        budget: bytes that it was planned for.
    """

    tile: int
    block: int
    z_chunk: int
    bytes_needed: int
    budget: int

    @property
    def room(self) -> int:
        """Bytes of the budget that are left over."""
        return max(self.budget - self.bytes_needed, 0)


_CLASSICAL_LATTICE = 16  # px; that of the shipped networks, so that tiles of all methods are cut alike


def common_geometry(configs: Sequence[NetworkConfig], reach: int = 0) -> Geometry:
    """Lattice and halo that serve all networks and `has_structure`: windows fall on each one's lattice, none sees less.

    The only place that knows how far a result depends on its surroundings.

    Args:
        configs: of the networks that take turns; none for classical methods.
        reach: of a classical focus measure, pixels.
    """
    lattice = math.lcm(*(config.lattice for config in configs)) if configs else _CLASSICAL_LATTICE
    geometry = Geometry(lattice, 0)
    return replace(geometry, halo=geometry.round_up(max(reach, structure_reach(), *(each.halo for each in configs))))


def make_plan(
    stack: Stack,
    slices: int,
    channels: int,
    configs: Sequence[NetworkConfig],
    geometry: Geometry,
    *,
    cpu: bool = True,
    large: bool = False,
    tile: int | None = None,
    memory: int | None = None,
    surfaces: int = 0,
) -> Plan:
    """Choose tile, block and Z-chunk for a byte budget, before anything is read.

    Args:
        stack: what will be fused.
        slices: how many of its slices.
        channels: how many of its channels are in memory together.
        configs: of the networks that take turns; none for classical methods.
        geometry: lattice and halo that serve all of them.
        cpu: whether the network runs on a CPU.
        large: whether what runs it there gains by large tiles, because the halo counts more than caches.
        tile: core that was asked for, pixels; None chooses.
        memory: bytes; None takes a third of what is free.
        surfaces: 1 or 2 that are told apart over the whole field before anything is fused, 0 for none.

    Raises:
        UserInputError: not even the smallest tile fits.
    """
    free = psutil.virtual_memory().available
    budget = memory or free // 3
    plane_size = (stack.shape[3], stack.shape[4])
    solver = solver_bytes(plane_size, slices, surfaces) if surfaces else 0
    if solver > (memory or free):  # no tile is small enough to change that
        raise UserInputError(
            f"Finding the surface through {slices} slices of {plane_size[0]} × {plane_size[1]} px needs "
            f"{solver / 2**20:,.0f} MiB; expected at most the {(memory or free) / 2**20:,.0f} MiB that may be used. "
            "Raise --memory, fuse fewer slices (--z), or leave --surface-from out."
        )
    beside = evidence_bytes(plane_size, slices) if surfaces else 0
    plane = max(geometry.round_up(size) for size in stack.shape[3:])
    # On an H200, tiles of 512 were faster than 1024 and took a third of the memory. Thirds of a block (352, 176) stand
    # between its halves: the smaller the tile, the more its halo costs.
    greatest = 256 if cpu and not large else 512
    sizes = [tile] if tile else [size for size in (512, 352, 256, 176, 128, 64) if size <= greatest]
    candidates = [geometry.round_up(size) for size in sizes]  # what was asked for by name is not replaced silently
    # One slice at a time keeps a CPU's caches warm (measured: 0.80 against 0.58 Mpx·slices/s for four).
    chunks = (1,) if cpu else (slices, 8, 4, 2, 1)
    needed = 0
    for core in candidates:
        for block in _block_sizes(core, plane, geometry):
            for z_chunk in chunks:
                needed = beside + _peak(
                    stack, slices, channels, configs, geometry, tile=core, block=block, z_chunk=z_chunk
                )
                if needed <= budget:
                    return Plan(core, block, min(z_chunk, slices), max(needed, solver), budget)
    raise UserInputError(
        f"{slices} slices need at least {needed / 2**20:,.0f} MiB, the budget is {budget / 2**20:,.0f} MiB. "
        "Raise --memory, or fuse fewer slices or channels (--z, --channels)."
    )


def _block_sizes(tile: int, plane: int, geometry: Geometry) -> list[int]:
    """Whole shards that hold a tile; 1024 px are read and written in few requests, less only to save memory."""
    sizes = [geometry.round_up(-(-tile // size) * size) for size in (1024, 512, 256)]
    return sorted({min(size, -(-plane // tile) * tile) for size in sizes}, reverse=True)


def _peak(
    stack: Stack,
    slices: int,
    channels: int,
    configs: Sequence[NetworkConfig],
    geometry: Geometry,
    *,
    tile: int,
    block: int,
    z_chunk: int,
) -> int:
    """Bytes at the busiest moment: a block as read and reflected, and all that one tile's network keeps."""
    block_area = (block + 2 * geometry.halo) ** 2
    tile_area = (min(tile, block) + 2 * geometry.halo) ** 2
    held = 3 * block_area * slices * channels * stack.dtype.itemsize  # this one; the next one as read, and reflected
    # Products of this block; of the one before, and once more while it is written.
    held += 3 * block**2 * (stack.dtype.itemsize * channels + 2 + 12)
    # float32 counts, guide, energies or scores, their softmaxes and what the maps take
    held += 48 * tile_area * slices
    held += int(tile_area * max((_network_bytes(config, slices, z_chunk) for config in configs), default=0))
    # Measuring holds a block (a colour image its luminance too), its cells' figures and one slice's scratch arrays.
    measuring = block**2 * (slices * (stack.dtype.itemsize * channels + 4 * stack.rgb + 1) + 80)
    return max(held, measuring)


def _network_bytes(config: NetworkConfig, slices: int, z_chunk: int) -> float:
    """Bytes per pixel of a tile: what a network keeps of every slice, and what it works with in one Z-chunk."""
    levels = [config.patch] * bool(config.depth) + [config.token_side] * bool(config.coarse_depth)
    per_pixel = sum(1 / side**2 for side in levels)  # tokens
    kept = config.pixel_features + len(config.focus_windows) + config.dim * per_pixel
    tokens = config.dim * (8 + 2 * config.mlp_ratio) + 3 * config.heads * config.window**2
    pooled = 2 * config.pixel_features  # mean and maximum over Z
    kept += 2 * config.cell_features / config.coarse_bin**2  # once more while they are made
    return 4 * (slices * kept + pooled + z_chunk * (6 * config.channels + tokens * per_pixel))
