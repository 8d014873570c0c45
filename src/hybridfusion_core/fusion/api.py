"""Fuse a stack, in memory or from disk to disk; CLI, Python, napari and Dask all come through here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.focus_range import FocusRanges
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.loop import measure, run
from hybridfusion_core.fusion.provenance import with_focus, with_statistics
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.result import FuseResult, describe
from hybridfusion_core.fusion.treated import check_transforms, is_treated, treated, write_transforms
from hybridfusion_core.io.create import create_output, refuse_input_as_output
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.io.disk.atomic import AtomicOutput
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.progress import Progress, run_to_end
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.montage import check_preview, write_preview
from hybridfusion_core.view.thumbnails import Thumbnails, montage_of

if TYPE_CHECKING:
    from hybridfusion_core.io.zarr.ngff_writing import Ngff


def fuse(
    source: Any,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    absent: Absent = "refuse",
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> FuseResult:
    """Fuse a focal stack in memory.

    Args:
        source: a path (or several slice images), a `Stack`, or a NumPy or dask array.
        axes: of an array, some of "TCZYX"; three axes are ZYX by default.
        z_step_um: distance between slices; None takes the file's own.
        absent: what to do about slices of which an OME-Zarr has no chunk, as for `open_stack`: "refuse", or "fill".
        progress: called after each tile.
        **options: fields of `FuseRequest`. Without z positions the height of the default products is in slices.

    Returns:
        The products, T C 1 Y X (a ZYX array gives Y X).

    Raises:
        UserInputError: the stack or an option is unfit.
        StoredDataError: the file is damaged.
    """
    request = make_request(**options)
    with as_stack(source, axes=axes, z_step_um=z_step_um, absent=absent) as stack:
        job = resolve(request, stack)
        planar = not isinstance(source, str | Path | list | tuple | Stack) and set(stack.axes) <= set("ZYX")
        return run_to_end(steps_in_memory(job, stack, planar=planar), progress)


def steps_in_memory(job: Job, stack: Stack, *, planar: bool = False) -> Generator[Progress, None, FuseResult]:
    """Fuse into memory, yielding after each block measured and each tile fused.

    Returns:
        (on exhaustion) the `FuseResult`.
    """
    with decoded_once(stack, job.plan.block, room=job.plan.room) as decoded:
        planes = yield from treated(job, decoded)
        statistics = yield from measure(job, planes)
        spec = with_statistics(describe(job, planes), job, planes, statistics)
        arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.array_shapes().items()}
        ranges = FocusRanges(arrays, spec)
        yield from run(job, planes, statistics, ranges.arrays)
        spec = with_focus(spec, ranges)
    z_um = None if stack.z_um is None else tuple(float(stack.z_um[index]) for index in job.slices)
    return FuseResult(arrays, spec, job.slices, z_um, planar)


def fuse_to(
    source: Any,
    path: str | Path,
    *,
    axes: str | None = None,
    z_step_um: float | None = None,
    absent: Absent = "refuse",
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
        absent: as for `fuse`.
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
    with as_stack(source, axes=axes, z_step_um=z_step_um, absent=absent) as stack:
        job = resolve(request, stack)
        kept: dict[str, Any] = {"overwrite": overwrite, "ngff": ngff, "checksum": checksum, "preview": preview}
        return run_to_end(steps_to_disk(job, stack, Path(path), **kept), progress)


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
    check_transforms(path, job.request, overwrite=overwrite)
    about: dict[str, Any] = {"block": job.plan.block, "overwrite": overwrite, "ngff": ngff}
    if is_treated(job.request):
        # Before anything is read, an output that cannot be written is refused; what it will be is known later.
        with create_output(path, describe(job, stack), **about):
            pass
        with decoded_once(stack, job.plan.block, room=job.plan.room, folder=path.parent) as decoded:
            planes = yield from treated(job, decoded)
            return (yield from _written(job, planes, path, about, picture, checksum=checksum))
    spec = describe(job, stack, checksum=checksum)
    # Started before anything is read: an output that cannot be written is refused at once.
    with (
        create_output(path, spec, **about) as output,
        decoded_once(stack, job.plan.block, room=job.plan.room, folder=path.parent) as decoded,
    ):
        planes = yield from treated(job, decoded)
        return (yield from _filled(output, job, planes, spec, path, picture))


def _written(
    job: Job, planes: Stack, path: Path, about: dict[str, Any], picture: Path | None, *, checksum: bool
) -> Generator[Progress, None, ResultSpec]:
    spec = describe(job, planes, checksum=checksum)
    with create_output(path, spec, **about) as output:
        return (yield from _filled(output, job, planes, spec, path, picture))


def _filled(
    output: AtomicOutput, job: Job, planes: Stack, spec: ResultSpec, path: Path, picture: Path | None
) -> Generator[Progress, None, ResultSpec]:
    """Measure and fuse a stack into its output, and commit it."""
    statistics = yield from measure(job, planes)
    spec = with_statistics(spec, job, planes, statistics)
    output.record(spec.provenance)
    ranges = FocusRanges(output.arrays, spec)
    thumbnails = yield from fuse_into(ranges.arrays, job, planes, spec, statistics)
    spec = with_focus(spec, ranges)
    output.record(spec.provenance)
    output.commit()
    write_transforms(path, planes)
    if picture is not None:
        with _result_stands(path, picture):
            write_preview(picture, montage_of(planes, job.channels, job.slices, spec, thumbnails))
    return spec


def fuse_into(
    arrays: Mapping[str, Any], job: Job, stack: Stack, spec: ResultSpec, statistics: list[list[FieldStatistics]]
) -> Generator[Progress, None, Thumbnails]:
    """Fuse a measured stack into an output, yielding after each tile; the caller commits.

    Args:
        arrays: of an output of `spec`.
        job: what to do.
        stack: what to fuse, in a form that can be read by region.
        spec: what `describe` says of the result.
        statistics: what `measure` returned.

    Returns:
        (on exhaustion) small copies of the first time point.
    """
    thumbnails = Thumbnails(arrays, spec)
    yield from run(job, stack, statistics, thumbnails.arrays)
    return thumbnails


def save(result: FuseResult, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a result that is in memory.

    Raises:
        UserInputError: the output exists or its format cannot hold the result.
    """
    with create_output(path, result.spec, overwrite=overwrite) as output:
        for name, array in result.arrays.items():
            output.arrays[name][...] = array
        output.commit()


def as_stack(
    source: Any, *, axes: str | None = None, z_step_um: float | None = None, absent: Absent = "refuse"
) -> Stack:
    """Open or wrap whatever `fuse` takes."""
    if isinstance(source, Stack):
        return source.with_z_step(z_step_um)
    if isinstance(source, str | Path | list | tuple):
        return open_stack(source, axes=axes, z_step_um=z_step_um, absent=absent)
    return Stack.from_array(source, axes=axes, z_step_um=z_step_um)


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
