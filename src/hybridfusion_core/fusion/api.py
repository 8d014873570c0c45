"""Fuse a stack, in memory or from disk to disk; CLI, Python, napari and Dask all come through here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.loop import decision_count, measure, run
from hybridfusion_core.fusion.request import (
    DEFAULT_PRODUCTS,
    PROJECTIONS,
    Job,
    make_request,
    one_or_all,
    resolve,
)
from hybridfusion_core.io.create import create_output, refuse_input_as_output
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.progress import Progress, exhaust
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.montage import check_preview, write_preview
from hybridfusion_core.view.thumbnails import Thumbnails, montage_of

_STATISTICS = TypeAdapter(FieldStatistics)
ALGORITHM_VERSION = 6  # raised whenever equal settings would give other pixels


@dataclass(frozen=True)
class FuseResult:
    """What a fusion gives.

    Products are T C 1 Y X, or Y X when a Z Y X array was handed in; None when they were not asked for.

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

    @property
    def fused(self) -> NDArray[Any]:
        """The fused image, in the input's dtype (method "sum": float32)."""
        return self._shaped(self.arrays["fused"])

    @property
    def decision(self) -> NDArray[np.uint16] | None:
        """Number of the dominant slice, counted from 1; 0 where nothing is in focus."""
        return self._shaped(self.arrays["decision"]) if "decision" in self.arrays else None

    @property
    def height_um(self) -> NDArray[np.float32] | None:
        """Height of the surface in µm, NaN where nothing is in focus; None if z positions are unknown."""
        return self._map("height_um")

    @property
    def height_slices(self) -> NDArray[np.float32] | None:
        """Height of the surface in slice indices counted from 0, NaN where nothing is in focus."""
        height = self._map("height_um")
        if height is None or self.z_um is None:
            return self._map("height_slices")
        order = np.argsort(self.z_um)
        index = np.interp(height, np.asarray(self.z_um)[order], np.asarray(self.slices)[order])
        return np.asarray(index, dtype=np.float32)

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """Probability that the decision is right to within one slice, NaN where nothing is in focus."""
        return self._map("confidence")

    @property
    def noise_gain(self) -> NDArray[np.float32] | None:
        """Standard deviation of the noise, fused over that of one slice, in (0, 1]."""
        return self._map("noise_gain")

    def _map(self, kind: str) -> NDArray[np.float32] | None:
        found = [index for index, channel in enumerate(self.spec.maps) if channel.name.split(" ")[0] == kind]
        return self._shaped(self.arrays["maps"][:, found]) if found else None

    def _shaped(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[0, 0, 0] if self.planar else array


def fuse(
    source: Any,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FuseResult:
    """Fuse a focal stack in memory.

    Args:
        source: a path (or several slice images), a `Stack`, or a NumPy or dask array.
        axes: of an array, some of "TCZYX"; three axes are ZYX by default.
        z_step_um: distance between slices; None takes the file's own.
        progress: called after each tile.
        **options: fields of `FuseRequest`. Without z positions the default products have their height in
            slices.

    Returns:
        The products, T C 1 Y X (a ZYX array gives Y X).

    Raises:
        UserInputError: the stack or an option is unfit.
        StoredDataError: the file is damaged.
    """
    request = make_request(**options)
    with as_stack(source, axes=axes, z_step_um=z_step_um) as stack:
        job = resolve(request, stack)
        if request.products is None and request.method not in PROJECTIONS:
            job = replace(job, products=DEFAULT_PRODUCTS)
        planar = not isinstance(source, str | Path | list | tuple | Stack) and set(stack.axes) <= set("ZYX")
        return exhaust(steps_in_memory(job, stack, planar=planar), progress)


def steps_in_memory(job: Job, stack: Stack, *, planar: bool = False) -> Generator[Progress, None, FuseResult]:
    """Fuse into memory, yielding after each block measured and each tile fused.

    Returns:
        (on exhaustion) the `FuseResult`.
    """
    with decoded_once(stack, job.plan.block, room=job.plan.room) as planes:
        statistics = yield from measure(job, planes)
        spec = describe(job, stack, statistics)
        arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
        yield from run(job, planes, statistics, arrays)
    z_um = None if stack.z_um is None else tuple(float(stack.z_um[index]) for index in job.slices)
    return FuseResult(arrays, spec, job.slices, z_um, planar)


def fuse_to(
    source: Any,
    path: str | Path,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    overwrite: bool = False,
    ngff: Ngff = "0.5",
    checksum: bool = False,
    preview: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> ResultSpec:
    """Fuse a focal stack from disk to disk; memory stays bounded however large the plane is.

    Args:
        source: as for `fuse`.
        path: output; its suffix chooses the format.
        axes: as for `fuse`.
        z_step_um: as for `fuse`.
        overwrite: replace an existing output, once the new one is complete.
        ngff: version of an OME-Zarr: "0.5", or "0.4" for older readers.
        checksum: record the sha256 of the input files.
        preview: also write a montage of the first time point, as PNG.
        progress: called after each tile.
        **options: fields of `FuseRequest`.

    Returns:
        What was written.

    Raises:
        UserInputError: the stack, an option or the output is unfit.
        StoredDataError: the input is damaged, or the output could not be verified.
    """
    request = make_request(**options)
    with as_stack(source, axes=axes, z_step_um=z_step_um) as stack:
        job = resolve(request, stack)
        kept: dict[str, Any] = {"overwrite": overwrite, "ngff": ngff, "checksum": checksum, "preview": preview}
        return exhaust(steps_to_disk(job, stack, Path(path), **kept), progress)


def steps_to_disk(
    job: Job,
    stack: Stack,
    path: Path,
    *,
    overwrite: bool = False,
    ngff: Ngff = "0.5",
    checksum: bool = False,
    preview: str | Path | None = None,
) -> Generator[Progress, None, ResultSpec]:
    """Fuse into a file, yielding after each block measured and each tile fused.

    Closing the iterator early removes what was written.

    Returns:
        (on exhaustion) the `ResultSpec` of what was written.
    """
    picture = None if preview is None else Path(preview)
    refuse_input_as_output(path, stack.source, picture)
    if picture is not None:
        check_preview(picture, overwrite=overwrite)
    kind: dict[str, Any] = {"block": job.plan.block, "overwrite": overwrite, "ngff": ngff}
    with create_output(path, describe(job, stack, []), **kind):
        pass  # an output that cannot be written is refused before anything is read
    with decoded_once(stack, job.plan.block, room=job.plan.room, folder=path.parent) as planes:
        statistics = yield from measure(job, planes)
        spec = describe(job, stack, statistics, checksum=checksum)
        with create_output(path, spec, **kind) as output:
            thumbnails = Thumbnails(output.arrays, spec)
            yield from run(job, planes, statistics, thumbnails.arrays)
            output.commit()
        if picture is not None:
            with _result_stands(path, picture):
                write_preview(picture, montage_of(planes, job.channels, job.slices, spec, thumbnails))
    return spec


def save(result: FuseResult, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a result that is in memory.

    Raises:
        UserInputError: the output exists or its format cannot hold the result.
    """
    with create_output(path, result.spec, overwrite=overwrite) as output:
        for name, array in result.arrays.items():
            output.arrays[name][...] = array
        output.commit()


def as_stack(source: Any, *, axes: str | None = None, z_step_um: float | None = None) -> Stack:
    """Open or wrap whatever `fuse` takes."""
    if isinstance(source, Stack):
        return source.with_z_step(z_step_um)
    if isinstance(source, str | Path | list | tuple):
        return open_stack(source, axes=axes, z_step_um=z_step_um)
    return Stack.from_array(source, axes=axes, z_step_um=z_step_um)


def describe(job: Job, stack: Stack, statistics: list[list[FieldStatistics]], *, checksum: bool = False) -> ResultSpec:
    """Say what a job's result is, before or after its pixels exist."""
    t, _, _, y, x = stack.shape
    fused_dtype = np.dtype(np.float32) if job.request.method == "sum" else stack.dtype
    channels = tuple(stack.channels[index] for index in job.channels)
    decided = [channels[0].name] if decision_count(job) == 1 else [channel.name for channel in channels]
    return ResultSpec(
        name=stack.name,
        shape=(t, len(job.channels), y, x),
        dtype=fused_dtype,
        channels=channels,
        rgb=stack.rgb,
        t=stack.t,
        z=stack.z,
        y=stack.y,
        x=stack.x,
        slices=stack.shape[2],
        decision_channels=tuple(decided) if "decision" in job.products else (),
        maps=_map_channels(job, stack, decided),
        provenance=_provenance(job, stack, statistics, checksum),
    )


def statistics_of(spec: ResultSpec, job: Job, t: int) -> list[FieldStatistics]:
    """Return what a finished result was normalised with at one time point: one for each of the job's deciders."""
    stored, count = spec.provenance["statistics"], len(job.deciders)
    return [_STATISTICS.validate_python(one) for one in stored[t * count : (t + 1) * count]]


def _map_channels(job: Job, stack: Stack, decided: list[str]) -> tuple[MapChannel, ...]:
    positions = np.arange(stack.shape[2]) if stack.z_um is None else stack.z_um
    chosen = positions[list(job.slices)]
    known = {
        "height": ("height_slices" if stack.z_um is None else "height_um", (chosen.min(), chosen.max())),
        "confidence": ("confidence", (0.0, 1.0)),
        "noise_gain": ("noise_gain", (0.0, 1.0)),
    }
    kinds = [known[product] for product in job.products if product in known]
    several = len(decided) > 1
    return tuple(
        MapChannel(f"{kind} ({name})" if several else kind, (float(low), float(high)))
        for kind, (low, high) in kinds
        for name in decided
    )


def _provenance(job: Job, stack: Stack, statistics: list[list[FieldStatistics]], checksum: bool) -> dict[str, Any]:
    return {
        "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
        "algorithm_version": ALGORITHM_VERSION,
        "input": [{"name": source} if is_url(source) else _identify(Path(source), checksum) for source in stack.source],
        # Of which one plane is left: how thick it is, and where a height in µm lies, is not known otherwise.
        "slices": stack.shape[2],
        "z_positions_um": None if stack.z_positions_um is None else [float(each) for each in stack.z_positions_um],
        "model": one_or_all([{"name": model.card.name, "sha256": model.sha256} for model in job.models]),
        "settings": job.settings(),
        "statistics": [_STATISTICS.dump_python(one, mode="json") for of_time in statistics for one in of_time],
        "runtime": str(job.runtime),
    }


def _identify(path: Path, checksum: bool) -> dict[str, Any]:
    """Name, size and time of an input; its files' contents in sorted order for the checksum."""
    with permitted(path):
        return _identity(path, checksum)


def _identity(path: Path, checksum: bool) -> dict[str, Any]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    identity: dict[str, Any] = {
        "name": path.name,
        "bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }
    if checksum:
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        identity["sha256"] = digest.hexdigest()
    return identity


@contextmanager
def _result_stands(path: Path, preview: Path) -> Iterator[None]:
    """Say, when a preview fails, that the result it shows is whole: hours of work are not thrown away for a picture."""
    try:
        yield
    except (OSError, HybridFusionError) as error:
        raise UserInputError(
            f"The preview {preview} could not be written ({error}); expected a picture beside the result. The result "
            f"{path} is whole and stays. For a picture, free some space or choose another place, and fuse again with "
            "--overwrite."
        ) from error


def measured_rate(job: Job) -> float:
    """Pixels × slices per second that this machine makes with a job's method, from one small tile per decider."""
    size, slices, count = job.geometry.round_up(128), 4, len(job.deciders)
    noise = np.random.default_rng(0).standard_normal((count, slices, size, size)).astype(np.float32)
    stack = Stack.from_array(noise, axes="CZYX")
    deciders = tuple(replace(each, guide=(index,), serves=(index,)) for index, each in enumerate(job.deciders))
    plan = replace(job.plan, tile=size, block=size, z_chunk=min(job.plan.z_chunk, slices))
    trial = replace(job, slices=tuple(range(slices)), channels=tuple(range(count)), deciders=deciders, plan=plan)
    exhaust(steps_in_memory(trial, stack), None)
    started = time.perf_counter()
    exhaust(steps_in_memory(trial, stack), None)
    return noise.size / (time.perf_counter() - started)
