"""The grid of a fusion and how it fits into memory: lattice, halo, and tiles, blocks and Z-chunks for a byte budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.surface_cells import evidence_bytes, solver_bytes
from hybridfusion_core.fusion.tiles import Geometry
from hybridfusion_core.model.devices import OPENVINO, TORCH
from hybridfusion_core.model.focus_measures import structure_reach
from hybridfusion_core.model.receptive_field import token_reach
from hybridfusion_core.stack import Stack

if TYPE_CHECKING:  # the network's libraries take seconds to import, and classical methods need none of them
    from hybridfusion_core.model.config import NetworkConfig


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


@dataclass(frozen=True)
class Computed:
    """What a job computes with, as far as memory depends on it.

    Attributes:
        configs: of the networks that take turns; none for classical methods.
        geometry: lattice and halo that serve all of them.
        package: what computes; see `Runtime`.
        device: see `resolve_device`.
        threads: of the CPU.
    """

    configs: Sequence[NetworkConfig]
    geometry: Geometry
    package: str = TORCH
    device: str = "cpu"
    threads: int = 1


def make_plan(
    stack: Stack,
    slices: int,
    channels: int,
    computed: Computed,
    tile: int | None = None,
    memory: int | None = None,
    surfaces: int = 0,
) -> Plan:
    """Choose tile, block and Z-chunk for a byte budget, before anything is read.

    Args:
        stack: what will be fused.
        slices: how many of its slices.
        channels: how many of its channels are in memory together.
        computed: what the job computes with.
        tile: core that was asked for, pixels; None chooses.
        memory: bytes; None takes a third of what is free.
        surfaces: 1 or 2 that are told apart over the whole field before anything is fused, 0 for none.

    Raises:
        UserInputError: not even the smallest tile fits.
    """
    free = psutil.virtual_memory().available
    budget = memory or free // 3
    solver = solver_bytes(stack.shape[3:], slices, surfaces) if surfaces else 0
    if solver > (memory or free):  # no tile is small enough to change that
        raise UserInputError(
            f"Finding the surface through {slices} slices of {stack.shape[3]} × {stack.shape[4]} px needs "
            f"{solver / 2**20:,.0f} MiB; expected at most the {(memory or free) / 2**20:,.0f} MiB that may be used. "
            "Raise --memory, fuse fewer slices (--z), or leave --surface-from out."
        )
    beside = evidence_bytes(stack.shape[3:], slices) if surfaces else 0
    geometry, cpu = computed.geometry, computed.device == "cpu"
    plane = max(geometry.round_up(size) for size in stack.shape[3:])
    # On an H200, tiles of 512 were faster than 1024 and took a third of the memory. Thirds of a block (352, 176) stand
    # between its halves: the smaller the tile, the more its halo costs. PyTorch on a CPU gains more from its caches.
    greatest = 256 if cpu and computed.package == TORCH else 512
    # What was asked for by name is not replaced silently.
    cores = (
        [geometry.round_up(size) for size in _SIZES if size <= greatest] if tile is None else [geometry.round_up(tile)]
    )
    # One slice at a time keeps a CPU's caches warm (measured: 0.80 against 0.58 Mpx·slices/s for four).
    chunks = (1,) if cpu else (slices, 8, 4, 2, 1)
    needed = 0
    for core in cores:
        for block in _block_sizes(core, plane, geometry):
            for z_chunk in chunks:
                needed = beside + _peak(stack, slices, channels, computed, tile=core, block=block, z_chunk=z_chunk)
                if needed <= budget:
                    return Plan(core, block, min(z_chunk, slices), max(needed, solver), budget)
    raise UserInputError(
        f"{slices} slices{f' in tiles of {tile} px' if tile else ''} need at least {needed / 2**20:,.0f} MiB, the "
        f"budget is {budget / 2**20:,.0f} MiB. {_cure(stack, slices, channels, computed, tile, budget)}"
    )


_SIZES = (512, 352, 256, 176, 128, 64)  # px, of tiles


def _cure(stack: Stack, slices: int, channels: int, computed: Computed, tile: int | None, budget: int) -> str:
    """Say what would fit: a smaller tile, if one was asked for and a smaller one does."""
    for size in _SIZES if tile else ():
        core = computed.geometry.round_up(size)
        block = _block_sizes(core, max(map(computed.geometry.round_up, stack.shape[3:])), computed.geometry)[-1]
        if size < (tile or 0) and _peak(stack, slices, channels, computed, tile=core, block=block, z_chunk=1) <= budget:
            return f"Use --tile {size} or leave it out, or raise --memory."
    return "Raise --memory, or fuse fewer slices or channels (--z, --channels)."


def _block_sizes(tile: int, plane: int, geometry: Geometry) -> list[int]:
    """Whole shards that hold a tile; 1024 px are read and written in few requests, less only to save memory."""
    sizes = [geometry.round_up(-(-tile // size) * size) for size in (1024, 512, 256)]
    return sorted({min(size, -(-plane // tile) * tile) for size in sizes}, reverse=True)


def _peak(stack: Stack, slices: int, channels: int, computed: Computed, *, tile: int, block: int, z_chunk: int) -> int:
    """Bytes at the busiest moment: a block as read and reflected, its products, and what is kept of one tile."""
    geometry = computed.geometry
    plane = [geometry.round_up(size) for size in stack.shape[3:]]  # of which no tile holds more than there is
    block_core, tile_core = ([min(size, each) for each in plane] for size in (block, tile))
    copies = 2 if block_core == plane else 3  # as read, and reflected; of several blocks, the one before too
    window = math.prod(size + 2 * geometry.halo for size in block_core)
    held = copies * window * slices * channels * stack.dtype.itemsize
    # Products of this block; of several blocks, of the one before too, and once more while it is written.
    held += (1 if copies == 2 else 3) * math.prod(block_core) * (stack.dtype.itemsize * channels + 2 + 12)
    # Measuring takes cells' figures and one slice's scratch arrays, and of a colour image its luminance.
    measuring = math.prod(block_core) * (66 + 4 * slices * stack.rgb)
    tiled = _tile_bytes(computed, slices, tile_core, z_chunk) + _frame_bytes(computed, slices, tile_core, plane)
    return held + max(round(tiled), measuring)


def _tile_bytes(computed: Computed, slices: int, core: Sequence[int], z_chunk: int) -> float:
    """Bytes of all that is kept of one tile with a core of Y and X."""

    def area(beyond: int) -> int:
        return math.prod(size + 2 * beyond for size in core)

    window, configs = area(computed.geometry.halo), computed.configs
    if computed.package == TORCH:
        # float32 counts, guide, energies or scores, their softmaxes and what the maps take
        return window * (48 * slices + max((_network_bytes(config, slices, z_chunk) for config in configs), default=0))
    if not configs:
        return slices * 4 * (window + area(0)) + _MEASURE_SCRATCH * window * min(computed.threads, slices)
    kept = max(_graph_bytes(config, area) for config in configs)
    return slices * (4 * window + 8 * area(0) + kept)  # the guide, scores, and what is between


def _frame_bytes(computed: Computed, slices: int, core: Sequence[int], plane: Sequence[int]) -> int:
    """Bytes that OpenVINO's graphs take for themselves: there are some for each size of a window."""
    if computed.package != OPENVINO:
        return 0
    sizes = [{each, whole % each} - {0} for each, whole in zip(core, plane, strict=True)]
    pixels = math.prod(sum(size + 2 * computed.geometry.halo for size in found) for found in sizes)
    return _GRAPH_SCRATCH * pixels * min(computed.threads, slices) * len(computed.configs)


# Bytes a pixel of what one thread works with (measured, benchmarks/memory.py --planned): a slice blurred, its gradients
# and their copies; and what OpenVINO's graphs of one window's size take.
_MEASURE_SCRATCH, _GRAPH_SCRATCH = 64, 430


def _graph_bytes(config: NetworkConfig, area: Callable[[int], int]) -> float:
    """Bytes that OpenVINO's stages keep of each slice of a tile, whose area so many pixels beyond the core is given."""
    tokens = token_reach(config)
    outer = tokens + sum(config.dilations)
    of_inner = 2 * config.dim / config.token_side**2 + config.cell_features / 3 / config.coarse_bin**2
    kept = len(config.focus_windows) * area(outer) + config.channels * area(config.token_side) + of_inner * area(tokens)
    return 4 * kept


def _network_bytes(config: NetworkConfig, slices: int, z_chunk: int) -> float:
    """Bytes per pixel of a tile: what a network keeps of every slice, and what it works with in one Z-chunk."""
    levels = [config.patch] * bool(config.depth) + [config.token_side] * bool(config.coarse_depth)
    per_pixel = sum(1 / side**2 for side in levels)  # tokens
    kept = config.pixel_features + len(config.focus_windows) + config.dim * per_pixel
    tokens = config.dim * (8 + 2 * config.mlp_ratio) + 3 * config.heads * config.window**2
    pooled = 2 * config.pixel_features  # mean and maximum over Z
    kept += 2 * config.cell_features / config.coarse_bin**2  # once more while they are made
    return 4 * (slices * kept + pooled + z_chunk * (6 * config.channels + tokens * per_pixel))
