"""Flat field and dark level of a plate, estimated from fields spread over it and stored beside the run record."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from distributed import Client

from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.fuse_field import copy_unit
from hybridfusion_core.batch.loop import Loop, Work
from hybridfusion_core.batch.plate_statistics import sampled
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.plates.plate import PlateField
from hybridfusion_core.shading.estimate import estimated
from hybridfusion_core.shading.profiles import AUTO

_LOSSES = 5  # workers that may go while they look at one field


def estimate_light(
    client: Client,
    workers: FitWorkers,
    settings: Settings,
    units: Sequence[PlateField],
    report: Callable[[PlateField, int, int], None],
    stop: Callable[[], bool],
) -> bool:
    """Estimate and store what the request leaves to "auto", unless that was done before.

    Args:
        client: connected.
        workers: that may be given tasks.
        settings: of the run.
        units: without known defects.
        report: called with a unit that was looked at, how many were, and how many there are.
        stop: whether the user wants no more.

    Returns:
        Whether it was stopped, and nothing stored.

    Raises:
        UserInputError: there are too few fields, or they differ in size.
    """
    request, paths = settings.request, settings.paths
    if AUTO not in (request.flat_field, request.dark) or paths.flat_field.is_file():
        return False
    chosen, found = [Task(unit) for unit in sampled(units)], dict[Task, Any]()

    def ended(task: Task, outcome: Outcome) -> None:
        found[task] = outcome.value if outcome.status == "done" else None
        report(task.unit, len(found), len(chosen))

    work = Work(copy_unit, lambda _, count: "workers were lost" if count >= _LOSSES else "")
    if Loop(client, workers, settings, work, lambda _: None, ended, stop).run(chosen):
        return True
    looked = [found[task] for task in chosen if found.get(task) is not None]
    sizes = {(plane, means.shape) for plane, means, _ in looked}
    if len(sizes) > 1:
        raise UserInputError(
            f"--flat-field auto found fields of {len(sizes)} sizes; expected one, because they share one camera. "
            "Choose fields of one size with --wells or --channels."
        )
    plane = looked[0][0] if looked else (1, 1)
    flat, dark = estimated([(means, least) for _, means, least in looked], plane, dark=request.dark == AUTO)
    for path, array in ((paths.dark, dark), (paths.flat_field, flat)):  # the one that is looked for last
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        write_whole(path, stream.getvalue())
    return False
