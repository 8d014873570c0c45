"""Who does the work: processes of this computer, or a Dask cluster that is there already."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import psutil
import torch
import zarr
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.comm.addressing import parse_address, parse_host_port

from hybridfusion_core.batch.workers import keep_main_out
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.devices import resolve_device

_ANSWER = 5.0  # s for a scheduler to take a connection, while somebody waits in front of a form
WAIT = 120.0  # s for a scheduler to answer, and for a first worker to appear
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_SMALLEST = 1 << 30  # bytes of memory that a worker needs at the least: libraries, a block and a tile


@dataclass(frozen=True)
class Where:
    """Where to compute.

    Attributes:
        workers: processes on this computer; None sizes them to its cores, memory and GPUs.
        scheduler: address of a Dask scheduler instead.
        scheduler_file: file that a Dask scheduler has written instead.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None

    def check(self) -> None:
        """See in a few seconds whether a scheduler that was named is there; `connected` waits for it much longer.

        Raises:
            UserInputError: the file does not exist or names none, two were named, or nothing answers.
        """
        if self.scheduler is not None and self.scheduler_file is not None:
            raise UserInputError(
                f"The scheduler is named twice, {self.scheduler} and {self.scheduler_file}; expected an address or a "
                "file. Leave one of them out."
            )
        address = self.scheduler
        if self.scheduler_file is not None:
            self.check_file()
            try:
                address = str(json.loads(self.scheduler_file.read_text(encoding="utf-8"))["address"])
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise UserInputError(
                    f"The scheduler file {self.scheduler_file} names no scheduler ({type(error).__name__}); expected "
                    "the one that `dask scheduler --scheduler-file` writes. Choose that file."
                ) from error
        if address is None:
            return
        try:
            host, port = parse_host_port(parse_address(address)[1])
            socket.create_connection((host, port), _ANSWER).close()
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise UserInputError(
                f"No Dask scheduler answers at {address} ({error}); expected one, at an address such as "
                "tcp://host:8786. Start it, or leave it out to use this computer."
            ) from error

    def check_file(self) -> None:
        """See that a scheduler file that was named exists: Dask would wait for it without end."""
        if self.scheduler_file is not None and not self.scheduler_file.is_file():
            raise UserInputError(
                f"The scheduler file {self.scheduler_file} does not exist; expected the one that `dask scheduler "
                "--scheduler-file` writes. Start the scheduler first, or leave it out to use this computer."
            )


class OneGpu(WorkerPlugin):
    """Shows each worker process of this computer one GPU, so that no two of them fill the memory of the same one.

    Args:
        devices: as CUDA_VISIBLE_DEVICES names them.
    """

    name = "hybridfusion-gpu"

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)

    def setup(self, worker: Any) -> None:
        """Choose by the number of the worker; one that replaces a dead one has its number. CUDA has not started yet."""
        os.environ["CUDA_VISIBLE_DEVICES"] = self._devices[int(worker.name) % len(self._devices)]


class Preparation(WorkerPlugin):
    """Makes a worker ready: its threads are counted on purpose, and Ctrl-C is left to the process that asked.

    Args:
        threads: of one task.
    """

    name = "hybridfusion"

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def setup(self, worker: Any) -> None:
        """Prepare a worker; Dask calls it for each, also for those that come later."""
        del worker
        torch.set_num_threads(self._threads)
        zarr.config.set({"threading.max_workers": self._threads, "async.concurrency": 4})
        # In a process of its own; a worker inside another program leaves signals alone.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, as it does by itself in other processes.

    Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, which also ends glibc's own adjustment: every large
    tensor is then fetched from the system and given back. Measured for the network, 512 × 512 × 4: 6.7 s of CPU time
    instead of 2.7 s, 2.0 million page faults instead of 0.2.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is not None:
        adjust(_MMAP_THRESHOLD, 32 << 20)
        adjust(_TRIM_THRESHOLD, 64 << 20)


@contextmanager
def connected(where: Where, device: str, units: int) -> Iterator[Client]:
    """Start workers, or connect to those that are there.

    Args:
        where: to compute.
        device: that was asked for, for the number of workers.
        units: how many there are to fuse.

    Yields:
        A client with at least one worker.

    Raises:
        UserInputError: there is no such scheduler, or no worker has appeared within `WAIT`.
    """
    if where.scheduler is None and where.scheduler_file is None:
        with _local(where.workers or default_workers(device, units)) as client:
            gpus = _gpus(device)
            if len(gpus) > 1:
                client.register_plugin(OneGpu(gpus))
            yield client
        return
    named = str(where.scheduler or where.scheduler_file)
    where.check_file()
    try:
        client = Client(
            where.scheduler,
            scheduler_file=where.scheduler_file and str(where.scheduler_file),
            timeout=WAIT,
            set_as_default=False,
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise UserInputError(
            f"No Dask scheduler answers at {named} ({type(error).__name__}: {error}); expected one, at an address such "
            "as tcp://host:8786. Start it, or leave --scheduler out to use this computer."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError as error:
            raise UserInputError(
                f"The Dask scheduler at {named} has no worker after {WAIT:g} s; expected one at least. Start workers "
                "with `dask worker`, or wait until the queue of the cluster has room, and run the batch again."
            ) from error
        yield client


@contextmanager
def _local(count: int) -> Iterator[Client]:
    keep_main_out()
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        # A worker that dies takes the blame for what it had been given; so it is given one task at a time.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            # Even without a dashboard there is a web server; on its usual port two batches would meet.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        # As the default it would take all that this process computes with Dask: what a viewer shows, for one.
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def default_workers(device: str, units: int) -> int:
    """Return how many processes this computer has room for.

    Args:
        device: that was asked for; each CUDA device gets one process.
        units: how many there are to fuse.
    """
    if resolve_device(device).type != "cpu":
        return max(min(len(_gpus(device)), units), 1)
    room = int(psutil.virtual_memory().available // _SMALLEST)
    return max(min(cores(), room, units), 1)


def _gpus(device: str) -> list[str]:
    """Return all CUDA devices, as CUDA_VISIBLE_DEVICES names them; none if one was named, or another kind is used."""
    resolved = resolve_device(device)
    if resolved.type != "cuda" or resolved.index is not None:
        return []
    named = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    return named or [str(index) for index in range(torch.cuda.device_count())]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fit_workers(client: Client, function: Any, *arguments: Any) -> list[str] | None:
    """Ask every worker whether it can take part.

    Args:
        client: connected.
        function: returns why a worker is unfit, or None.
        *arguments: of the function.

    Returns:
        Addresses of the fit ones; None if all are.

    Raises:
        UserInputError: none is, or none has answered within `WAIT`.
    """
    answers: dict[str, Any] = client.sync(_answers, client, list(client.nthreads()), function, arguments)
    reasons = {
        address: f"{type(answer).__name__}: {answer}" if isinstance(answer, BaseException) else answer
        for address, answer in answers.items()
    }
    fit = [address for address, reason in reasons.items() if reason is None]
    if not fit:
        raise UserInputError(
            f"None of {len(reasons)} workers can take part; expected one at least that has this version of the "
            "program, the device and model that were asked for, and sees the plate and the output under the same "
            "paths. Found:",
            [f"{address}: {reason}" for address, reason in sorted(reasons.items())[:5]],
        )
    return None if len(fit) == len(reasons) else fit


async def _answers(client: Client, addresses: list[str], function: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Ask all workers at once; one whose network drive hangs never answers, and the others are not to wait for it."""

    async def ask(address: str) -> Any:
        try:
            asked = client.run(function, *arguments, workers=[address], on_error="return")
            return (await asyncio.wait_for(asked, WAIT))[address]
        except TimeoutError:
            return f"it has not answered within {WAIT:g} s"

    return dict(zip(addresses, await asyncio.gather(*map(ask, addresses)), strict=True))
