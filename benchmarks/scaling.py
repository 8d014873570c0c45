"""What a batch costs beside the network: python benchmarks/scaling.py units --count 10000; … fields --side 1024.

"units" sends units that compute nothing through all the rest: listing, records, scheduling, publishing, reports, and
a second run that finds everything done. "fields" fuses real fields with one worker and with two, and compares with the
network alone. Results go to stdout as JSON lines; docs/scaling.md says what follows from them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import tifffile
import torch
from distributed import Client, WorkerPlugin

from hybridfusion_core.batch import fuse_field as fusing_units
from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.records.finished import fingerprint, frame_digest, listed_inputs
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.batch.records.store import FORMAT, write_json
from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.run import run_plate
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.batch.task import Task
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import Selection, select

PATTERN = "{row}{column}_f{field}_z{z}_c{channel}.tif"
COLUMNS, ROWS = 48, 32

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("units", "fields"))
    parser.add_argument("--count", type=int, default=None, help="units (default: 10000), or fields (default: 6)")
    parser.add_argument("--side", type=int, default=1024, help="of a field, px")
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="0: units only, records without Dask")
    parser.add_argument("--method", default="network")
    parser.add_argument("--device", default="auto", help="of the fields; cpu is PyTorch (default: auto)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "units":
            for workers in options.workers:
                measure_units(Path(folder), options.count or 10_000, workers)
        else:
            measure_fields(Path(folder), options)


def measure_units(folder: Path, count: int, workers: int) -> None:
    """Time everything but the fusion of so many fields of two slices."""
    shutil.rmtree(folder / "in", ignore_errors=True)
    write_names(folder / "in", count)
    plate, listing = timed(lambda: open_plate(folder / "in", pattern=PATTERN))
    request = make_request(method="tenengrad", device="cpu", tile=64, threads=1)
    paths = BatchPaths(folder / f"out{workers}.ome.zarr")
    started = time.process_time()
    if workers:
        first, seconds = timed(lambda: run(plate, paths, request, workers, nothing=True))
        assert first.fused == count
    else:
        _, seconds = timed(lambda: write_records(plate, paths, request))
    own = time.process_time() - started
    again, resume = timed(lambda: run(plate, paths, request, workers, nothing=True))
    assert again.kept == count
    _, report = timed(lambda: write_reports(plate, again))
    say(
        units=count,
        workers=workers,
        listing_s=listing,
        run_s=seconds,
        ms_per_unit=1000 * seconds / count,
        own_cpu_ms_per_unit=1000 * own / count,
        resume_s=resume,
        report_s=report,
        record_bytes=size(paths.folder) // count,
        peak_gb=psutil.Process().memory_info().rss / 1e9,
    )


def write_records(plate: Plate, paths: BatchPaths, request: FuseRequest) -> None:
    """Leave what a run of all units leaves, without Dask: what costs too much of an afternoon to schedule."""
    first, *rest = plate.fields()
    run_plate(plate, [first], Choices(paths.output, request, stats="field"), connecting(1))
    for unit in rest:
        record = no_fusion(Task(unit), None, paths, key_of(unit), 0)
        write_json(paths.record(key_of(unit), unit.t), record | {"seconds": 0.0})


def write_names(folder: Path, count: int) -> None:
    """Write so many fields of two slices, whose planes are all one tiny file."""
    folder.mkdir()
    tifffile.imwrite(folder / "plane", np.ones((8, 8), np.uint16), photometric="minisblack", metadata=None)
    content = (folder / "plane").read_bytes()
    (folder / "plane").unlink()
    for number in range(count):
        field, well = divmod(number, ROWS * COLUMNS)
        row, column = divmod(well, COLUMNS)
        letters = (chr(64 + row // 26) if row >= 26 else "") + chr(65 + row % 26)
        for z in (1, 2):
            (folder / f"{letters}{column + 1:02d}_f{field + 1}_z{z}_c1.tif").write_bytes(content)


def measure_fields(folder: Path, options: argparse.Namespace) -> None:
    """Time a plate of synthetic fields with some numbers of workers, and the network by itself."""
    count = options.count or 6
    write_fields(folder / "in", count, options.side, options.slices)
    plate = open_plate(folder / "in", pattern=PATTERN)
    request = make_request(method=options.method, device=options.device, threads=1)
    torch.set_num_threads(1)
    alone = used = 0.0
    for _ in range(2):  # the first one loads the model
        with open_field(next(plate.fields())) as stack:
            before = time.process_time()
            _, alone = timed(lambda stack=stack: fuse(stack, method=options.method, device=options.device, threads=1))
            used = time.process_time() - before
    say(network_alone_s_per_field=alone, network_alone_cpu_s_per_field=used)
    for workers in options.workers:
        paths = BatchPaths(folder / f"out{workers}.ome.zarr")
        warm: list[tuple[float, float]] = []
        started = time.perf_counter()
        result = run(plate, paths, request, workers, warm=warm)
        whole = time.perf_counter() - started
        seconds, cpu = (after - before for before, after in zip(warm[0], warm[-1], strict=True))
        say(
            fields=count,
            side=options.side,
            slices=options.slices,
            workers=workers,
            run_s=whole,
            fusing_s=seconds,
            fields_per_s=count / seconds,
            cpu_s_per_field=cpu / count,
            cpu_overhead=cpu / (used * count) - 1,
            bytes_per_field=(size(paths.output) + size(paths.maps)) // count,
            files_per_field=(files(paths.output) + files(paths.maps)) // count,
            record_bytes_per_field=size(paths.folder) // count,
            failures=len(result.failures),
        )


def write_fields(folder: Path, count: int, side: int, slices: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    noise = random.normal(0, 8, (side, side))
    y, x = np.indices((side, side))
    for number in range(count):
        for z in range(slices):
            plane = 400 + 150 * np.sin(y / (2 + z) + number) * np.cos(x / (3 + z)) + np.roll(noise, 7 * z, 0)
            name = f"A{number % COLUMNS + 1:02d}_f{number // COLUMNS + 1}_z{z + 1}_c1.tif"
            tifffile.imwrite(folder / name, plane.astype(np.uint16), compression="zlib")


def run(
    plate: Plate,
    paths: BatchPaths,
    request: FuseRequest,
    workers: int,
    *,
    nothing: bool = False,
    warm: list[tuple[float, float]] | None = None,
) -> Any:
    """Run a batch; `warm` gets when fusing began and units ended, in wall and in CPU seconds."""

    def report(event: Any) -> None:
        if warm is not None and (event.stage == "fusing" or not warm):
            warm.append(now())
        elif warm is not None:
            warm[:] = [now()]  # statistics are measured before

    choices = Choices(paths.output, request, stats="field" if nothing else "plate")
    return run_plate(plate, select(plate, Selection()), choices, connecting(workers, nothing=nothing), report)


def connecting(workers: int, *, nothing: bool = True) -> Callable[[int], AbstractContextManager[Client]]:
    """Return what starts workers of this computer."""

    @contextmanager
    def connect(units: int) -> Iterator[Client]:
        with connected(Where(workers=workers), "cpu", units) as client:
            if nothing:
                client.register_plugin(ComputesNothing())
            yield client

    return connect


class ComputesNothing(WorkerPlugin):
    """Replaces the fusion on a worker by the traces that it leaves."""

    name = "nothing"

    def setup(self, worker: Any) -> None:
        """Do so."""
        del worker
        fusing_units._fused = no_fusion


def no_fusion(task: Any, _settings: Any, paths: BatchPaths, key: FieldKey, _halvings: int) -> dict[str, Any]:
    """Leave what a fused unit leaves, without pixels."""
    unit = task.unit
    pixels = paths.output.joinpath(*key, "0", "c", str(task.index))
    pixels.mkdir(parents=True, exist_ok=True)
    inputs = sorted(listed_inputs(unit))
    return {
        "format": FORMAT,
        "status": "done",
        "unit": {"row": unit.row, "column": unit.column, "field": unit.field, "time": unit.t},
        "inputs": inputs,
        "fingerprint": fingerprint(unit.folder, inputs),
        "frame": frame_digest(unit),
        "algorithm_version": ALGORITHM_VERSION,
        "settings": {"tile": 64},
        "figures": {"flags": []},
        "attributes": {"fused": {}},
        "pixels": [pixels.relative_to(paths.output.parent).as_posix()],
    }


def timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def now() -> tuple[float, float]:
    """Return wall and CPU seconds, those of the workers among them."""
    own = psutil.Process()
    spent = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return time.perf_counter(), sum(each.user + each.system for each in spent)


def size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def files(folder: Path) -> int:
    return sum(each.is_file() for each in folder.rglob("*"))


def say(**figures: float) -> None:
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    main()
