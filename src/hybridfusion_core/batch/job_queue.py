"""Workers as jobs of a cluster's queue: SLURM, PBS, SGE or LSF, by dask-jobqueue.

Jobs come when the queue has room and end at their walltime, each by itself. Both are expected: a worker is examined
when it comes, and a field whose worker ended is fused by another one.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dask.utils import parse_timedelta
from distributed import Client

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.access import guarded

QUEUES = {
    "slurm": ("dask_jobqueue", "SLURMCluster"),
    "pbs": ("dask_jobqueue", "PBSCluster"),
    "sge": ("dask_jobqueue", "SGECluster"),
    "lsf": ("dask_jobqueue", "LSFCluster"),
    "local": ("dask_jobqueue.local", "LocalCluster"),  # runs the scripts of jobs as they are, to try them
}
_LARGEST = 1 << 20  # bytes of a configuration
_MARGIN = 0.1  # of the walltime: a worker ends by itself before its job is killed
_STAGGER = 0.05  # of the walltime, so that not all end at once
_JOBS = {"minimum_jobs": 0, "maximum_jobs": 16}


def read_config(path: Path | None) -> dict[str, Any]:
    """Read how jobs are asked for: what dask-jobqueue's clusters take, and the numbers of jobs.

    Args:
        path: a TOML file with keys such as queue, cores, memory, walltime, minimum_jobs and maximum_jobs; or None.

    Raises:
        UserInputError: it cannot be read.
        StoredDataError: it is no TOML.
    """
    if path is None:
        return {}
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise UserInputError(
            f"{path} is no configuration of a cluster; expected a small TOML file with keys such as queue, cores, "
            "memory and walltime. Check the path."
        )
    with guarded(f"{path} cannot be understood", 'TOML, such as walltime = "02:00:00". Correct it.'):
        return tomllib.loads(path.read_text(encoding="utf-8"))


@contextmanager
def queued(queue: str, config: Mapping[str, Any], units: int) -> Iterator[Client]:
    """Ask a queue for jobs, as many as there are units to fuse, and give them back.

    Args:
        queue: a key of `QUEUES`.
        config: what `read_config` gave.
        units: how many there are.

    Raises:
        UserInputError: dask-jobqueue is not installed, the configuration does not fit, or the queue cannot be asked.
    """
    jobs = {name: int(config.get(name, default)) for name, default in _JOBS.items()}
    options = {name: value for name, value in config.items() if name not in _JOBS}
    options.setdefault("cores", 1)
    options.setdefault("processes", options["cores"])  # a field is a task, and a task has a process
    options.setdefault("memory", "4GiB")
    options.setdefault("walltime", "02:00:00")
    lifetime = [*_lifetime(str(options["walltime"])), *options.pop("worker_extra_args", ())]
    if queue == "local":
        options.pop("walltime")
    try:
        cluster = _class(queue)(worker_extra_args=lifetime, **options)
    except (TypeError, ValueError, OSError) as error:
        raise UserInputError(
            f"Jobs cannot be described to {queue} ({error}); expected what dask-jobqueue takes for it. Check "
            "--cluster-config."
        ) from error
    with cluster, Client(cluster, set_as_default=False) as client:
        most = max(min(jobs["maximum_jobs"], units), 1)
        cluster.adapt(minimum_jobs=min(jobs["minimum_jobs"], most), maximum_jobs=most)
        yield client


def _class(queue: str) -> Any:
    module, name = QUEUES[queue]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserInputError(
            f"--cluster {queue} needs dask-jobqueue, which is not installed ({error}); expected the extra 'cluster'. "
            'Install it with: pip install "napari-hybridfusion[cluster]"'
        ) from error


def _lifetime(walltime: str) -> list[str]:
    """Return the options of a worker that end it before its job is killed; D-HH:MM:SS, HH:MM:SS, MM:SS or minutes."""
    days, _, clock = walltime.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        seconds = 60 * parts[0] if len(parts) == 1 else sum(60**power * part for power, part in enumerate(parts[::-1]))
        seconds += 86400 * int(days or 0)
    except ValueError:
        try:
            seconds = int(parse_timedelta(walltime))
        except (ValueError, KeyError) as error:
            raise UserInputError(
                f"The walltime {walltime!r} is no length of time; expected one such as 02:00:00. Correct it in "
                "--cluster-config."
            ) from error
    return ["--lifetime", f"{round(seconds * (1 - _MARGIN))}s", "--lifetime-stagger", f"{round(seconds * _STAGGER)}s"]
