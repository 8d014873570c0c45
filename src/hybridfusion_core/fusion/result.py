"""What a fusion gives in memory, and how a result of any kind is described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.provenance import provenance
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec, array_of
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.stack import Axis, Stack


@dataclass(frozen=True)
class FuseResult:
    """What a fusion gives.

    Products are T C 1 Y X, or Y X when a Z Y X array was handed in; None when they were not asked for. Slabs and two
    surfaces lie along Z: T C Z Y X, or Z Y X.

    Attributes:
        arrays: "fused", "decision" and "maps", T C 1 Y X each, as they go to disk.
        spec: what the arrays mean.
        slices: indices of the slices that were fused.
        z_um: their positions, or None if unknown.
        planar: products are given as Y X.
    """

    arrays: Mapping[str, NDArray[Any]]
    spec: ResultSpec
    slices: tuple[int, ...]
    z_um: tuple[float, ...] | None
    planar: bool

    def product(self, name: str) -> NDArray[Any] | None:
        """Return a product by its name in `PRODUCTS`; None if it was not made."""
        array = array_of(name)
        if array != "maps":
            return self._shaped(self.arrays[array]) if array in self.arrays else None
        found = [index for index, channel in enumerate(self.spec.maps) if channel.product == name]
        return self._shaped(self.arrays["maps"][:, found]) if found else None

    @property
    def fused(self) -> NDArray[Any]:
        """The fused image, in the input's dtype (method "sum": float32)."""
        return self._shaped(self.arrays["fused"])

    @property
    def decision(self) -> NDArray[np.uint16] | None:
        """Number of the dominant slice, counted from 1; 0 where nothing is in focus."""
        return self.product("decision")

    @property
    def height_um(self) -> NDArray[np.float32] | None:
        """Height of the surface in µm, NaN where nothing is in focus; None if z positions are unknown."""
        return None if self.z_um is None else self.product("height")

    @property
    def height_slices(self) -> NDArray[np.float32] | None:
        """Height of the surface in slice indices counted from 0, NaN where nothing is in focus."""
        height = self.product("height")
        if height is None or self.z_um is None:
            return height
        order = np.argsort(self.z_um)
        index = np.interp(height, np.asarray(self.z_um)[order], np.asarray(self.slices)[order])
        return np.asarray(index, dtype=np.float32)

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """Probability that the decision is right to within one slice, NaN where nothing is in focus."""
        return self.product("confidence")

    @property
    def noise_gain(self) -> NDArray[np.float32] | None:
        """Standard deviation of the noise, fused over that of one slice, in (0, 1]."""
        return self.product("noise_gain")

    @property
    def in_focus(self) -> NDArray[np.float32] | None:
        """Probability that anything is in focus, in [0, 1]; what decision 0 comes from."""
        return self.product("in_focus")

    @property
    def warnings(self) -> list[str]:
        """What a person should know of the result, one sentence each: slices without weight, heights in slices."""
        return list(self.spec.provenance.get("warnings", ()))

    def _shaped(self, array: NDArray[Any]) -> NDArray[Any]:
        if not self.planar:
            return array
        return np.asarray(array[0, 0, 0] if array.shape[2] == 1 else array[0, 0])


def describe(
    job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]] = (), *, checksum: bool = False
) -> ResultSpec:
    """Say what a job's result is, before or after its pixels exist.

    Args:
        job: what is done.
        stack: what is fused; its input's files are looked at, which takes a while if there are many.
        statistics: what `measure` returned; `with_statistics` adds it later.
        checksum: record the sha256 of the input's files.
    """
    t, _, _, y, x = stack.shape
    fused_dtype = np.dtype(np.float32) if job.to_float else stack.dtype
    channels = tuple(stack.channels[index] for index in job.channels)
    decided = [channels[0].name] if job.decision_count == 1 else [channel.name for channel in channels]
    z, positions = _planes(job, stack)
    return ResultSpec(
        name=stack.name,
        shape=(t, len(job.channels), y, x),
        dtype=fused_dtype,
        channels=channels,
        rgb=stack.rgb,
        start=start_of(stack),
        t=stack.t,
        z=z,
        depth=job.depth,
        z_positions_um=positions,
        y=stack.y,
        x=stack.x,
        slices=stack.shape[2],
        decision_channels=tuple(decided) if "decision" in job.products else (),
        maps=_map_channels(job, stack, decided),
        provenance=provenance(job, stack, statistics, checksum=checksum),
    )


def start_of(stack: Stack) -> tuple[int, int]:
    """Say where a stack begins that alignment cropped."""
    frame = ((stack.treatment or {}).get("alignment") or {}).get("frame")
    return (0, 0) if frame is None else (int(frame["y"][0]), int(frame["x"][0]))


def _planes(job: Job, stack: Stack) -> tuple[Axis, tuple[float, ...] | None]:
    """Say how far planes of a result lie apart, and where: slabs have a place, two surfaces have heights instead."""
    if not job.groups or stack.z_um is None:
        return stack.z, None
    z_um = stack.z_um[list(job.slices)]
    positions = tuple(float(z_um[list(group)].mean()) for group in job.groups)
    apart = float(np.median(np.diff(positions))) if len(positions) > 1 else 0.0
    return (Axis(abs(apart), "micrometer") if apart else stack.z), positions


def _map_channels(job: Job, stack: Stack, decided: list[str]) -> tuple[MapChannel, ...]:
    known_z = stack.z_um is not None
    chosen = (np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um)[list(job.slices)]
    several = len(decided) > 1
    maps = []
    for name in job.products:
        product = PRODUCTS[name]
        if product.kind == "map":
            window = product.window or (float(chosen.min()), float(chosen.max()))
            quantity = name + product.suffix(known_z=known_z)
            maps += [MapChannel(quantity, window, name, of if several else None) for of in decided]
    return tuple(maps)
