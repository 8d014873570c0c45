"""What a worker does with one field at one time point: measure it, or fuse it and put it into the plate.

Results are on disk before a task returns, and what it returns is tiny.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from distributed import get_worker
from pydantic import TypeAdapter

from hybridfusion_core.batch.figures.drift import slice_figures
from hybridfusion_core.batch.figures.flags import figures
from hybridfusion_core.batch.figures.pictures import picture
from hybridfusion_core.batch.fitness import unfit
from hybridfusion_core.batch.output.staging import Staged, StagedImage, staged_files
from hybridfusion_core.batch.preparation import prepared
from hybridfusion_core.batch.records.finished import fingerprint, finished, frame_digest, listed_inputs
from hybridfusion_core.batch.records.paths import TRANSFORMS, BatchPaths, FieldKey, key_of, unit_transforms
from hybridfusion_core.batch.records.store import (
    FORMAT,
    count_start,
    forget_starts,
    in_session,
    note_shortage,
    uncount_start,
    unit_record,
    write_json,
)
from hybridfusion_core.batch.records.writing import unwritable
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.fusion.api import fuse_into
from hybridfusion_core.fusion.blank_slices import with_blank_slices
from hybridfusion_core.fusion.enough_slices import refuse_single_slice
from hybridfusion_core.fusion.focus_range import FocusRanges
from hybridfusion_core.fusion.job import Decider, Job, resolve
from hybridfusion_core.fusion.light_of_slices import with_own_light
from hybridfusion_core.fusion.loop import measure
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION, with_focus
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.fusion.treated import transforms_text, treated
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.disk.lock import Lock
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.model.devices import out_of_memory
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.field_stack import find_channels, open_field
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.progress import Progress
from hybridfusion_core.shading.estimate import small_copy
from hybridfusion_core.shading.profiles import AUTO
from hybridfusion_core.stack import Stack

TRIES = 2  # of a unit that fails
KILLS = 3  # workers that one unit may take with it
_PATIENCE = 60.0  # s to wait for a task of an earlier run, which stops at its next tile
_BOUNDLESS = 1 << 62  # bytes
_GPU = threading.Lock()  # a worker of several threads sends one task at a time to its GPU

T = TypeVar("T")
_STATISTICS = TypeAdapter(list[FieldStatistics])


class _StopAsked(Exception):
    """The session of this run is over."""


def fuse_unit(task: Task, settings: Settings) -> Outcome:
    """Fuse a unit, put it into the plate and write down how it ended.

    Args:
        task: what to fuse.
        settings: of the run.
    """
    reason = unfit(settings, task.unit.folder)
    if reason is not None:
        return Outcome("refused", reason, worker=get_worker().address)
    try:
        with prepared(settings.request.threads or 1), _locked(settings.paths, key_of(task.unit), task.unit.t):
            return _tried(task, settings, settings.paths, key_of(task.unit))
    except _StopAsked:
        return Outcome("stopped")
    except Exception as error:
        reason = unwritable(error, settings.paths.output)
        if not reason:
            raise
        return Outcome("full", reason)


def _tried(task: Task, settings: Settings, paths: BatchPaths, key: FieldKey) -> Outcome:
    """Fuse a unit that nobody else works on, and try again if that fails."""
    started, t = time.monotonic(), task.unit.t
    if finished(task.unit, unit_record(paths, key, t), paths):
        return Outcome("done")  # by a task of an earlier run that was still at it
    reason, trace = "", ""
    for _ in range(TRIES):
        _go_on(paths, settings)
        start = count_start(paths, key, t, settings.session)
        if start.kills >= KILLS:
            reason, trace = killed(start.kills), ""
            break
        try:
            record = _fused(task, settings, paths, key, start.halvings)
        except Exception as error:
            if isinstance(error, _StopAsked) or unwritable(error, paths.output):
                uncount_start(paths, key, t)
                raise
            reason, trace = _reason(error), traceback.format_exc()
            if _is_memory(error):
                note_shortage(paths, key, t, settings.session)
            else:
                uncount_start(paths, key, t)
        else:
            seconds = time.monotonic() - started
            write_json(paths.record(key, t), record | {"seconds": round(seconds, 3)})
            forget_starts(paths, key, t)
            return Outcome("done", seconds=seconds, flags=tuple(record["figures"]["flags"]))
    write_failure(paths, task.unit, reason, trace)
    return Outcome("failed", reason, time.monotonic() - started)


def write_failure(paths: BatchPaths, unit: PlateField, reason: str, trace: str = "") -> None:
    """Write down why a unit failed.

    Args:
        paths: of the batch.
        unit: that failed.
        reason: for the user.
        trace: for us, if there is one.
    """
    key = key_of(unit)
    failure = {"format": FORMAT, "status": "failed", "unit": _named(unit), "reason": reason, "traceback": trace}
    write_json(paths.record(key, unit.t), failure)
    forget_starts(paths, key, unit.t)


def killed(count: int) -> str:
    """Say that a unit took its workers with it."""
    return (
        f"{count} workers died while they fused it, the last one with smaller tiles; expected it to fit into memory. "
        "Free memory, or use fewer workers with more memory each, and run the batch again."
    )


def measure_unit(task: Task, settings: Settings) -> Outcome:
    """Measure a unit; the value of the outcome is its statistics, one for each decider.

    Args:
        task: what to measure.
        settings: of the run.
    """
    unit, paths = task.unit, settings.paths
    reason = unfit(settings, unit.folder)
    if reason is not None:
        return Outcome("refused", reason, worker=get_worker().address)
    try:
        with prepared(settings.request.threads or 1), _opened(unit, settings) as stack:
            job = job_for(stack, settings, unit, absent=_absent(unit, settings))
            with decoded_once(stack, job.plan.block, room=job.plan.room, folder=paths.staging) as decoded:
                planes = _watched(treated(job, decoded, notice=False), paths, settings)
                (found,) = _watched(measure(job, planes), paths, settings)
                return Outcome("done", value=tuple(found))
    except _StopAsked:
        return Outcome("stopped")
    except (HybridFusionError, OSError, MemoryError) as error:
        reason = unwritable(error, paths.output)
        return Outcome("full", reason) if reason else Outcome("failed", _reason(error))


def copy_unit(task: Task, settings: Settings) -> Outcome:
    """Look at a unit's light; the value of the outcome is its plane, Y and X, and what `small_copy` gives of it.

    Args:
        task: what to look at.
        settings: of the run.
    """
    reason = unfit(settings, task.unit.folder)
    if reason is not None:
        return Outcome("refused", reason, worker=get_worker().address)
    try:
        with prepared(settings.request.threads or 1), _opened(task.unit, settings) as stack:
            return Outcome("done", value=(stack.shape[3:], *small_copy(stack)))
    except (HybridFusionError, OSError, MemoryError) as error:
        return Outcome("failed", _reason(error))


def _of_unit(request: FuseRequest, paths: BatchPaths, unit: PlateField) -> FuseRequest:
    """Put what was estimated over the plate in the place of "auto", and a unit's own transforms in that of a folder."""
    return replace(
        request,
        align_from=None if request.align_from is None else _own_transforms(Path(request.align_from), unit),
        flat_field=str(paths.flat_field) if request.flat_field == AUTO else request.flat_field,
        dark=str(paths.dark) if request.dark == AUTO else request.dark,
    )


def _own_transforms(given: Path, unit: PlateField) -> str:
    """Return the file of a unit in a folder of transforms by field, or the one file that serves all.

    Raises:
        UserInputError: the folder has none for it.
    """
    if not given.is_dir():
        return str(given)
    inside = given / TRANSFORMS if (given / TRANSFORMS).is_dir() else given
    path = inside / unit_transforms(key_of(unit), unit.t)
    if not path.is_file():
        raise UserInputError(
            f"{inside} has no transforms of well {unit.well} field {unit.field} at time {unit.t}; expected "
            f"{unit_transforms(key_of(unit), unit.t).as_posix()}. Take the NAME.hybridfusion of a batch that aligned "
            "the same fields, or measure anew with --align shift."
        )
    return str(path)


def job_for(stack: Stack, settings: Settings, unit: PlateField, halvings: int = 0, absent: Collection[int] = ()) -> Job:
    """Resolve the settings of a run against one stack.

    Args:
        stack: of the channels that are fused, and no others.
        settings: of the run.
        unit: which one it is.
        halvings: how often to halve the tiles.
        absent: indices of channels that were not acquired at this time: the others decide without them.

    Raises:
        UserInputError: the stack cannot be fused so.
        StoredDataError: a model is another one than when the run began.
    """
    tile = max((settings.request.tile or settings.block) >> halvings, 1)
    # Planned once, for the run: what is free at this moment changes nothing.
    request = _of_unit(settings.request, settings.paths, unit)
    job = resolve(replace(request, channels=None, tile=tile, memory=_BOUNDLESS), stack)
    refuse_single_slice(stack, len(job.slices), "fuse")
    known = dict(settings.models)
    for model in job.models:
        if known.get(model.card.name) != model.sha256:
            raise StoredDataError(
                f"The model {model.card.name!r} is another one than when this plate was begun (sha256 "
                f"{model.sha256[:12]}…); expected the same. Put it back, or choose another output."
            )
    z_chunk = min(settings.z_chunk, len(job.slices))
    plan = replace(job.plan, block=settings.block, z_chunk=z_chunk, budget=settings.budget)
    return replace(job, deciders=tuple(_without(each, absent) for each in job.deciders), plan=plan)


def _without(decider: Decider, absent: Collection[int]) -> Decider:
    left = tuple(channel for channel in decider.guide if channel not in absent)
    return replace(decider, guide=left) if left else decider


def _absent(unit: PlateField, settings: Settings) -> tuple[int, ...]:
    """Return which of the channels that are fused were not acquired, by their index among these."""
    if not unit.frame.not_acquired:
        return ()
    chosen = find_channels(unit, settings.request.channels)
    return tuple(index for index, channel in enumerate(chosen) if channel in unit.frame.not_acquired)


def _opened(unit: PlateField, settings: Settings) -> Stack:
    stack = open_field(
        unit,
        channels=settings.request.channels,
        z_step_um=settings.choices.z_step_um,
        pixel_size_um=settings.choices.pixel_size_um,
        absent=settings.choices.absent,
    )
    return replace(stack, name=f"{unit.well} field {unit.field}")


def _fused(task: Task, settings: Settings, paths: BatchPaths, key: FieldKey, halvings: int) -> dict[str, Any]:
    """Fuse a unit into its place; returns its record."""
    unit = task.unit
    with _opened(unit, settings) as stack:
        # Before any pixel is read: what changes meanwhile is done again.
        inputs = sorted({*listed_inputs(unit), *(_inside(unit, each) for each in stack.source)})
        mark = fingerprint(unit.folder, inputs)
        absent = _absent(unit, settings)
        job = job_for(stack, settings, unit, halvings, absent)
        with decoded_once(stack, job.plan.block, room=job.plan.room, folder=paths.staging) as decoded:
            planes = _watched(treated(job, decoded, notice=False), paths, settings)
            statistics = (
                _watched(measure(job, planes), paths, settings) if task.statistics is None else [list(task.statistics)]
            )
            _check_statistics(stack, job, statistics)
            if task.statistics is not None:
                statistics = with_own_light(job, planes, with_blank_slices(job, planes, statistics))
            spec = describe(job, planes, statistics)
            staged = _staged(task, settings, paths)
            with staged.create(spec, job) as output:
                ranges = FocusRanges(output.arrays, spec)
                steps = fuse_into(ranges.arrays, job, planes, spec, statistics)
                with nullcontext() if job.device == "cpu" else _GPU:
                    thumbnails = _watched(steps, paths, settings)
                seen = slice_figures(job, planes, output.arrays)
                spec = with_focus(spec, ranges)
                output.record(spec.provenance)
                output.commit()
    if (text := transforms_text(planes)) is not None:
        path = paths.transforms(key, unit.t)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    first = next(index for index in range(len(spec.channels)) if index not in absent)
    found = figures(job, spec, thumbnails.copies, seen, first=first, dropped=unit.frame.dropped)
    write_whole(paths.thumbnail(key, unit.t), picture(thumbnails.copies, spec.slices))
    return {
        "format": FORMAT,
        "status": "done",
        "unit": _named(unit),
        "inputs": inputs,
        "fingerprint": mark,
        "frame": frame_digest(unit),
        "algorithm_version": ALGORITHM_VERSION,
        "models": spec.provenance["model"],
        "settings": spec.provenance["settings"],
        "statistics": [_STATISTICS.dump_python(each, mode="json") for each in statistics],
        "treatment": spec.provenance.get("treatment"),
        "halvings": halvings,
        "not_acquired": [spec.channels[each].name for each in absent],
        "warnings": spec.provenance["warnings"],
        "figures": found | {"focus": [{**each, "time": unit.t} for each in ranges.found()]},
        **staged.place(),
    }


def _staged(task: Task, settings: Settings, paths: BatchPaths) -> Staged:
    if paths.files:
        return staged_files(task.unit, settings.request.channels, settings.choices.output_format, paths)
    key = key_of(task.unit)
    return StagedImage(
        paths.staged(key, task.unit.t), paths, key, task.index, task.times, settings.choices.output_format.ngff
    )


def _check_statistics(stack: Stack, job: Job, statistics: list[list[FieldStatistics]]) -> None:
    """Refuse statistics of other channels than a stack has."""
    wanted = [1 if stack.rgb else len(decider.guide) for decider in job.deciders]
    if statistics[0] and [len(each.models) for each in statistics[0]] != wanted:
        raise StoredDataError(
            f"{stack.name} has other channels than most fields of the plate; expected the same in all of them, because "
            "they are normalised together. Choose channels that every field has with --channels, or --stats field."
        )


def _inside(unit: PlateField, source: str) -> str:
    if is_url(source):
        return source.removeprefix(f"{unit.folder}/")
    path, folder = Path(source), Path(unit.folder)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path.absolute())


def _named(unit: PlateField) -> dict[str, Any]:
    return {"row": unit.row, "column": unit.column, "field": unit.field, "time": unit.t}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HybridFusionError) else f"{type(error).__name__}: {error}"


def _is_memory(error: BaseException | None) -> bool:
    """Say whether memory ran out, however a library wrapped it."""
    while error is not None and not out_of_memory(error):
        error = error.__cause__ or error.__context__
    return error is not None


def _go_on(paths: BatchPaths, settings: Settings) -> None:
    if not in_session(paths, settings.session):
        raise _StopAsked


def _watched(steps: Generator[Progress, None, T], paths: BatchPaths, settings: Settings) -> T:
    """Run steps to their end, or stop between two of them when the session is over."""
    while True:
        _go_on(paths, settings)
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@contextmanager
def _locked(paths: BatchPaths, key: FieldKey, t: int) -> Iterator[None]:
    """Work on a unit alone: a task of an earlier run may still be at it, on another computer."""
    path = paths.unit_lock(key, t)
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            lock = Lock(path, paths.output)
        except UserInputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            break
    try:
        yield
    finally:
        lock.release()
