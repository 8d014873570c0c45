"""The statistics of a plate, or of each well, from fields spread over it; what could not be measured is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Client

from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.fuse_field import measure_unit
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.plate_statistics import common_statistics, sampled
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.plate import PlateField

_LOSSES = 5  # workers that may go while they measure one field: walltimes, not only its size

Statistics = dict[str, tuple[FieldStatistics, ...]]


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        statistics: by the name of the well, or "" for the whole plate.
        left_out: units that could not be measured, and why.
        stopped: the user stopped it, or the disk is full; nothing of it may be kept.
        full: why the output cannot be written.
    """

    statistics: Statistics
    left_out: tuple[tuple[PlateField, str], ...] = ()
    stopped: bool = False
    full: str = ""


def group_of(unit: PlateField, stats: str) -> str:
    """Return whose statistics a unit is normalised with: the name of its well, or "" for the whole plate.

    Where some channels were not acquired, others decide: such units are measured together.
    """
    group = unit.well if stats == "well" else ""
    absent = " and ".join(unit.imaging.channels[each].name for each in unit.frame.not_acquired)
    return f"{group} without {absent}".strip() if absent else group


def measured(
    client: Client,
    workers: FitWorkers,
    settings: Settings,
    units: Iterable[PlateField],
    report: Callable[[PlateField, int, int], None],
    stop: Callable[[], bool],
) -> Measurement:
    """Measure fields spread over each group of units.

    A worker that is lost changes nothing: its fields are measured again, by others.

    Args:
        client: connected.
        workers: that may be given tasks.
        settings: of the run.
        units: without known defects, in order of the plate.
        report: called with a unit that was measured, how many were, and how many there are.
        stop: whether the user wants no more.
    """
    groups: dict[str, list[PlateField]] = {}
    for unit in units:
        groups.setdefault(group_of(unit, settings.choices.stats), []).append(unit)
    chosen = {Task(unit): name for name, group in groups.items() for unit in sampled(group)}
    outcomes: dict[Task, Outcome] = {}

    def ended(task: Task, outcome: Outcome) -> None:
        outcomes[task] = outcome
        report(task.unit, len(outcomes), len(chosen))

    loop = Loop(client, workers, settings, Work(measure_unit, _lost), lambda _: None, ended, stop)
    stopped = loop.run(chosen)
    full = next((each.reason for each in outcomes.values() if each.status == "full"), "")
    if stopped or full or any(each.status == "stopped" for each in outcomes.values()):
        return Measurement({}, stopped=True, full=full)
    found: dict[str, list[Sequence[FieldStatistics]]] = {}
    for task, name in chosen.items():  # in order of the plate, whichever was first
        if outcomes[task].status == "done":
            found.setdefault(name, []).append(outcomes[task].value)
    left_out = tuple((task.unit, each.reason) for task, each in outcomes.items() if each.status == "failed")
    return Measurement({name: common_statistics(fields) for name, fields in found.items()}, left_out)


def named(left_out: Iterable[tuple[PlateField, str]]) -> list[dict[str, Any]]:
    """Return units that the statistics lack as plain JSON values."""
    units = sorted(left_out, key=lambda each: each[0].name)
    return [{"well": unit.well, "field": unit.field, "time": unit.t, "reason": why} for unit, why in units]


def lacking(left_out: Sequence[Mapping[str, Any]]) -> str:
    """Say which fields the statistics lack; "" if none."""
    if not left_out:
        return ""
    first = [f"{each.get('well')} field {each.get('field')} time {each.get('time')}" for each in left_out[:5]]
    return (
        f"The statistics that all fields are normalised with lack {len(left_out)} fields that could not be read when "
        f"they were measured: {', '.join(first)}{', …' if len(left_out) > 5 else ''}. They stay as they are when these "
        "fields are repaired, so that all fields are treated alike; --overwrite measures anew."
    )


def _lost(_: Task, count: int) -> str:
    if count < _LOSSES:
        return ""
    return f"{count} workers were lost while they measured it; expected one to last. Use workers with more memory each."
