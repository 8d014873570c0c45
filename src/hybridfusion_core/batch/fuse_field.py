"""What a worker does with one field at one time point: measure it, or fuse it and put it into the plate.

Results are on disk before a task returns, and what it returns is tiny.
"""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import TypeAdapter

from hybridfusion_core.batch.output.format import PLATE, Form
from hybridfusion_core.batch.output.staging import Staged, StagedImage, staged_files
from hybridfusion_core.batch.records.paths import FieldKey, Places, key_of
from hybridfusion_core.batch.records.store import (
    FORMAT,
    count_start,
    fingerprint,
    finished,
    forget_starts,
    frame_digest,
    in_session,
    listed_inputs,
    uncount_start,
    unit_record,
    write_json,
)
from hybridfusion_core.batch.report.drift import slice_figures
from hybridfusion_core.batch.report.flags import figures
from hybridfusion_core.batch.report.pictures import picture
from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.loop import measure, run
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.io.disk.access import system_error
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.disk.lock import Lock
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.thumbnails import Thumbnails

TRIES = 2  # of a unit that fails
KILLS = 2  # workers that one unit may take with it
_PATIENCE = 60.0  # s to wait for a task of an earlier run, which stops at its next tile
_BOUNDLESS = 1 << 62  # bytes
_GPU = threading.Lock()  # a worker of several threads sends one task at a time to its GPU
_FULL = {errno.ENOSPC, errno.EDQUOT}

T = TypeVar("T")
_STATISTICS = TypeAdapter(list[FieldStatistics])


@dataclass(frozen=True)
class Settings:
    """What all tasks of a run share; small, because it travels with each of them.

    Attributes:
        output: path of the plate, as workers see it.
        session: name of the run that may write.
        request: every choice; device, precision, threads and tile are resolved.
        block: side of blocks, pixels.
        z_chunk: slices that pass the network at a time, at most.
        budget: bytes that the plan was made for; what it leaves holds planes that are decoded as a whole.
        models: sha256 of the models by their name.
        z_step_um: replaces the distance between slices.
        pixel_size_um: replaces the distance between pixels.
        form: of the results.
    """

    output: str
    session: str
    request: FuseRequest
    block: int
    z_chunk: int
    budget: int = 1 << 30
    models: tuple[tuple[str, str], ...] = ()
    z_step_um: float | None = None
    pixel_size_um: float | None = None
    form: Form = PLATE

    @property
    def places(self) -> Places:
        """Where everything stands."""
        return self.form.places(Path(self.output))


@dataclass(frozen=True)
class Task:
    """One unit and its place in the image of its field.

    Attributes:
        unit: what to fuse.
        index: of its time point among those that are fused.
        times: how many of the field are fused.
        statistics: of the plate or well, one for each decider; None measures the unit by itself.
    """

    unit: PlateField
    index: int = 0
    times: int = 1
    statistics: tuple[FieldStatistics, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        status: "done"; "failed", with the reason written down; "stopped" because it was asked to; or "full", the
            disk, so that no other task can end better.
        reason: of a failure.
        seconds: that it took.
        flags: of the fused field.
    """

    status: Literal["done", "failed", "stopped", "full"]
    reason: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()


class _StopAsked(Exception):
    """The session of this run is over."""


def fuse_unit(task: Task, settings: Settings) -> Outcome:
    """Fuse a unit, put it into the plate and write down how it ended.

    Args:
        task: what to fuse.
        settings: of the run.
    """
    places, key, t = settings.places, key_of(task.unit), task.unit.t
    started = time.monotonic()
    reason, trace = "", ""
    try:
        with _locked(places, key, t):
            if finished(task.unit, unit_record(places, key, t), places):
                return Outcome("done")  # by a task of an earlier run that was still at it
            for _ in range(TRIES):
                _go_on(places, settings)
                start = count_start(places, key, t, settings.session)
                if start.kills >= KILLS:
                    reason, trace = killed(start.kills), ""
                    break
                try:
                    record = _fused(task, settings, places, key, start.halvings)
                except _StopAsked:
                    uncount_start(places, key, t)
                    raise
                except Exception as error:
                    code = getattr(system_error(error), "errno", None)
                    if code in _FULL:
                        uncount_start(places, key, t)
                        return Outcome("full", str(error))
                    reason, trace = _reason(error), traceback.format_exc()
                    if not _is_memory(error):  # a start that stays counted halves the tiles
                        uncount_start(places, key, t)
                else:
                    seconds = time.monotonic() - started
                    write_json(places.record(key, t), record | {"seconds": round(seconds, 3)})
                    forget_starts(places, key, t)
                    return Outcome("done", seconds=seconds, flags=tuple(record["figures"]["flags"]))
            write_failure(places, task.unit, reason, trace)
            return Outcome("failed", reason, time.monotonic() - started)
    except _StopAsked:
        return Outcome("stopped")


def write_failure(places: Places, unit: PlateField, reason: str, trace: str = "") -> None:
    """Write down why a unit failed.

    Args:
        places: of the batch.
        unit: that failed.
        reason: for the user.
        trace: for us, if there is one.
    """
    key = key_of(unit)
    failure = {"format": FORMAT, "status": "failed", "unit": _named(unit), "reason": reason, "traceback": trace}
    write_json(places.record(key, unit.t), failure)
    forget_starts(places, key, unit.t)


def killed(count: int) -> str:
    """Say that a unit took its workers with it."""
    return (
        f"{count} workers died while they fused it, the last one with smaller tiles; expected it to fit into memory. "
        "Free memory, or use fewer workers with more memory each, and run the batch again."
    )


def measure_unit(unit: PlateField, settings: Settings) -> tuple[FieldStatistics, ...] | None:
    """Return the statistics of a unit, one for each decider; None if it cannot be read: fusing it will tell."""
    places = settings.places
    try:
        with _opened(unit, settings) as stack:
            job = job_for(stack, settings)
            with decoded_once(stack, job.plan.block, room=job.plan.room, folder=places.staging) as planes:
                (found,) = _watched(measure(job, planes), places, settings)
                return tuple(found)
    except (_StopAsked, HybridFusionError, OSError, MemoryError):
        return None


def job_for(stack: Stack, settings: Settings, halvings: int = 0) -> Job:
    """Resolve the settings of a run against one stack.

    Args:
        stack: of the channels that are fused, and no others.
        settings: of the run.
        halvings: how often to halve the tiles.

    Raises:
        UserInputError: the stack cannot be fused so.
        StoredDataError: a model is another one than when the run began.
    """
    tile = max((settings.request.tile or settings.block) >> halvings, 1)
    # Planned once, for the run: what is free at this moment changes nothing.
    job = resolve(replace(settings.request, channels=None, tile=tile, memory=_BOUNDLESS), stack)
    if len(job.slices) < 2:
        raise UserInputError(
            f"{stack.name} has {stack.shape[2]} slice(s), {len(job.slices)} of them chosen; expected two or more to "
            "fuse. Leave it out, or check --z."
        )
    known = dict(settings.models)
    for model in job.models:
        if known.get(model.card.name) != model.sha256:
            raise StoredDataError(
                f"The model {model.card.name!r} is another one than when this plate was begun (sha256 "
                f"{model.sha256[:12]}…); expected the same. Put it back, or choose another output."
            )
    z_chunk = min(settings.z_chunk, len(job.slices))
    return replace(job, plan=replace(job.plan, block=settings.block, z_chunk=z_chunk, budget=settings.budget))


def _opened(unit: PlateField, settings: Settings) -> Stack:
    stack = open_field(
        unit,
        channels=settings.request.channels,
        z_step_um=settings.z_step_um,
        pixel_size_um=settings.pixel_size_um,
    )
    return replace(stack, name=f"{unit.well} field {unit.field}")


def _fused(task: Task, settings: Settings, places: Places, key: FieldKey, halvings: int) -> dict[str, Any]:
    """Fuse a unit into its place; returns its record."""
    unit = task.unit
    with _opened(unit, settings) as stack:
        # Before any pixel is read: what changes meanwhile is done again.
        inputs = sorted({*listed_inputs(unit), *(_inside(unit, each) for each in stack.source)})
        mark = fingerprint(unit.folder, inputs)
        job = job_for(stack, settings, halvings)
        with decoded_once(stack, job.plan.block, room=job.plan.room, folder=places.staging) as planes:
            statistics = (
                _watched(measure(job, planes), places, settings) if task.statistics is None else [list(task.statistics)]
            )
            _check_statistics(stack, job, statistics)
            spec = describe(job, stack, statistics)
            staged = _staged(task, settings, places)
            with staged.create(spec, job) as output:
                thumbnails = Thumbnails(output.arrays, spec)
                with nullcontext() if job.device.type == "cpu" else _GPU:
                    for _ in run(job, planes, statistics, thumbnails.arrays):
                        _go_on(places, settings)
                seen = slice_figures(job, planes, output.arrays)
                output.commit()
    found = figures(job, spec, thumbnails.copies, seen)
    write_whole(places.thumbnail(key, unit.t), picture(thumbnails.copies, spec.slices))
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
        "halvings": halvings,
        "figures": found,
        **staged.place(),
    }


def _staged(task: Task, settings: Settings, places: Places) -> Staged:
    if places.files:
        return staged_files(task.unit, settings.request.channels, settings.form, places)
    key = key_of(task.unit)
    return StagedImage(places.staged(key, task.unit.t), places, key, task.index, task.times, settings.form.ngff)


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
    while error is not None and not isinstance(error, MemoryError | torch.OutOfMemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _go_on(places: Places, settings: Settings) -> None:
    if not in_session(places, settings.session):
        raise _StopAsked


def _watched(steps: Generator[Progress, None, T], places: Places, settings: Settings) -> T:
    """Run steps to their end, or stop between two of them when the session is over."""
    while True:
        _go_on(places, settings)
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@contextmanager
def _locked(places: Places, key: FieldKey, t: int) -> Iterator[None]:
    """Work on a unit alone: a task of an earlier run may still be at it, on another computer."""
    path = places.unit_lock(key, t)
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            lock = Lock(path, places.output)
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
