"""Who does the work: processes of this computer, or a Dask cluster that is there already."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import psutil
import zarr
from distributed import Client, LocalCluster, Security, WorkerPlugin
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.core import connect

from hybridfusion_core.batch.job_queue import queued, read_config
from hybridfusion_core.batch.workers import keep_main_out
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.model.threads import cores

_ANSWER = 8.0  # s for a scheduler to answer
WAIT = 120.0  # s for a first worker to appear
_SMALLEST = 1 << 30  # bytes of memory that a worker needs at the least: libraries, a block and a tile


@dataclass(frozen=True)
class Where:
    """Where to compute.

    Attributes:
        workers: processes on this computer; None sizes them to its cores, memory and GPUs.
        scheduler: address of a Dask scheduler instead.
        scheduler_file: file that a Dask scheduler has written instead.
        cluster: queue that workers are submitted to as jobs instead, a key of `QUEUES`.
        cluster_config: how such jobs are asked for, a TOML file.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None
    cluster: str | None = None
    cluster_config: Path | None = None

    @property
    def is_shared(self) -> bool:
        """Whether others than this process compute; workers of our own have no page to show."""
        return (self.scheduler, self.scheduler_file, self.cluster) != (None, None, None)

    def check(self) -> None:
        """See in ten seconds whether a scheduler that was named is there, and a configuration can be read.

        Raises:
            UserInputError: the file does not exist or names none, two were named, or no scheduler answers.
        """
        if self.scheduler is not None and self.scheduler_file is not None:
            raise UserInputError(
                f"The scheduler is named twice, {self.scheduler} and {self.scheduler_file}; expected an address or a "
                "file. Leave one of them out."
            )
        read_config(self.cluster_config)
        address = self.scheduler if self.scheduler_file is None else _address_in(self.scheduler_file)
        if address is not None:
            _greet(address)


def _address_in(file: Path) -> str:
    if not file.is_file():  # Dask would wait for it without end
        raise UserInputError(
            f"The scheduler file {file} does not exist; expected the one that `dask scheduler --scheduler-file` "
            "writes. Start the scheduler first, or leave it out to use this computer."
        )
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserInputError(
            f"The scheduler file {file} names no scheduler ({type(error).__name__}); expected the one that `dask "
            "scheduler --scheduler-file` writes. Choose that file."
        ) from error


def _greet(address: str) -> None:
    """Exchange Dask's greeting with a scheduler: a port that takes a connection may be anything.

    It is asked by a thread of its own, because nothing else ends a name server that does not answer.
    """
    try:
        parse_host_port(parse_address(address)[1])
    except (ValueError, TypeError) as error:
        raise UserInputError(
            f"The scheduler {address!r} has no port; expected an address with one, such as tcp://host:8786. Add it, or "
            "leave it out to use this computer."
        ) from error
    failures: list[BaseException] = []
    greeter = threading.Thread(target=_try_to_greet, args=(address, failures), daemon=True)
    greeter.start()
    greeter.join(_ANSWER + 1)
    if greeter.is_alive() or failures:
        problem = f"{type(failures[0]).__name__}: {failures[0]}" if failures else f"not within {_ANSWER:g} s"
        raise UserInputError(
            f"No Dask scheduler answers at {address} ({problem}); expected one, at an address such as "
            "tcp://host:8786. Start it, or leave it out to use this computer."
        )


def _try_to_greet(address: str, failures: list[BaseException]) -> None:
    async def greet() -> None:
        options = Security().get_connection_args("client")
        comm = await connect(address, timeout=_ANSWER, **options)
        await comm.close()

    try:
        asyncio.run(greet())
    except Exception as error:
        failures.append(error)


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


class OwnWorkers(WorkerPlugin):
    """Prepares worker processes of this computer, which end with the batch: Ctrl-C is left to the one that asked."""

    name = "hybridfusion"

    def setup(self, worker: Any) -> None:
        """Prepare a worker; Dask calls it for each, also for one that replaces another."""
        del worker
        zarr.config.set({"threading.max_workers": 1})
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


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
    if where.cluster is not None:
        with queued(where.cluster, read_config(where.cluster_config), units) as client:
            yield client
        return
    if where.scheduler is None and where.scheduler_file is None:
        with _local(where.workers or default_workers(device, units)) as client:
            gpus = _gpus(device)
            if len(gpus) > 1:
                client.register_plugin(OneGpu(gpus))
            yield client
        return
    where.check()
    named = str(where.scheduler or where.scheduler_file)
    try:
        client = Client(
            where.scheduler,
            scheduler_file=where.scheduler_file and str(where.scheduler_file),
            timeout=_ANSWER,
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


def dashboard(client: Client) -> str:
    """Return the address of the page that shows what a cluster does; "" if it has none."""
    services = client.scheduler_info().get("services", {})
    return str(client.dashboard_link) if "dashboard" in services else ""


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
    with ExitStack() as started:
        started.enter_context(dask.config.set(settings))
        try:
            cluster = started.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    # Even without a dashboard there is a web server; on its usual port two batches would meet.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                )
            )
            # As the default it would take all that this process computes with Dask: what a viewer shows, for one.
            client = started.enter_context(Client(cluster, set_as_default=False))
            client.register_plugin(OwnWorkers())
        except (OSError, RuntimeError, TimeoutError) as error:
            raise UserInputError(
                f"{count} workers did not start on this computer ({type(error).__name__}: {error}); expected them "
                "within a minute. It may be busy or short of memory: use fewer --workers, or run the batch again later."
            ) from error
        yield client


def default_workers(device: str, units: int) -> int:
    """Return how many processes this computer has room for.

    Args:
        device: that was asked for; each CUDA device gets one process.
        units: how many there are to fuse.
    """
    if resolve_device(device) != "cpu":
        return max(min(len(_gpus(device)), units), 1)
    room = int(psutil.virtual_memory().available // _SMALLEST)
    return max(min(cores(), room, units), 1)


def _gpus(device: str) -> list[str]:
    """Return all CUDA devices, as CUDA_VISIBLE_DEVICES names them; none if one was named, or another kind is used."""
    if resolve_device(device) != "cuda":
        return []
    import torch  # noqa: PLC0415 - slow to import

    named = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    return named or [str(index) for index in range(torch.cuda.device_count())]
