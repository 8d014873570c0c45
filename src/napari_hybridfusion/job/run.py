"""From a task to a result that napari can show: in memory, or through an OME-Zarr."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hybridfusion_core.fusion.api import steps_in_memory, steps_to_disk
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.tiles import blocks
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.model.devices import give_back_memory, out_of_memory
from hybridfusion_core.progress import Progress
from napari_hybridfusion.job.task import Task
from napari_hybridfusion.layers.pyramids import zarr_levels


@dataclass(frozen=True)
class Fused:
    """A result.

    Attributes:
        spec: what the arrays are.
        levels: "fused", "decision" and "maps" those that were made: T C 1 Y X each, and smaller copies of it.
        job: as it was run.
    """

    spec: ResultSpec
    levels: dict[str, list[Any]]
    job: Job


def fusing(task: Task) -> Generator[Progress, None, Fused]:
    """Run a task; where memory ends, again in smaller tiles, which give the same pixels.

    Returns:
        (on exhaustion) the result.
    """
    while True:
        try:
            return (yield from _once(task))
        except (MemoryError, RuntimeError) as error:  # PyTorch's own error is a RuntimeError
            job = task.job
            tile = job.geometry.round_up(job.plan.tile // 2)
            if not out_of_memory(error) or tile >= job.plan.tile:
                raise
            give_back_memory()
            plan = replace(job.plan, tile=tile, z_chunk=1)
            task = replace(task, job=replace(job, plan=plan))


def _once(task: Task) -> Generator[Progress, None, Fused]:
    if task.path is None:
        result = yield from steps_in_memory(task.job, task.source.stack)
        return Fused(result.spec, {name: [array] for name, array in result.arrays.items()}, task.job)
    spec = yield from steps_to_disk(task.job, task.source.stack, task.path, overwrite=task.overwrite)
    return Fused(spec, stored(task.path, spec), task.job)


def saving(fused: Fused, path: Path, *, overwrite: bool = False) -> Generator[Progress, None, Path]:
    """Write a result with all that explains it.

    Args:
        fused: the result.
        path: its suffix chooses the format.
        overwrite: replace what stands there, once the new one is whole.

    Returns:
        (on exhaustion) the path.

    Raises:
        UserInputError: something stands there already, or the format cannot hold the result.
    """
    job, spec = fused.job, fused.spec
    whole = {name: levels[0] for name, levels in fused.levels.items()}
    done, total = 0, spec.shape[0] * spec.shape[2] * spec.shape[3]
    with create_output(path, spec, block=job.plan.block, overwrite=overwrite) as output:
        for t in range(spec.shape[0]):
            for core in blocks(spec.shape[2:], job.plan.block, job.geometry):
                at = (t, slice(None), slice(None), core.y.core, core.x.core)
                for name, array in whole.items():
                    output.arrays[name][at] = np.asarray(array[at])
                done += (core.y.stop - core.y.start) * (core.x.stop - core.x.start)
                yield Progress("saving", done, total)
        output.commit()
    return path


def stored(path: Path, spec: ResultSpec) -> dict[str, list[Any]]:
    """Open what was written, lazily."""
    places = {**result_paths(path), "decision": path / "labels" / "decision"}
    return {name: list(zarr_levels(places[name], open_stack(places[name]))) for name in spec.array_shapes()}
