"""Real processes that are killed at any moment, interrupted, or spread over a cluster: the plate is always the same."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from hybridfusion_core.batch import scheduler as cluster
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.scenes.samples.write import write_sample

KILLS = 4  # for each of two victims
QUIET = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}

Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plate") / "in.ome.zarr"
    write_sample("plate", path)
    return path


@pytest.fixture(scope="module")
def expected(plate: Path) -> tuple[Contents, Contents]:
    """What a run gives that nothing happens to."""
    output = plate.with_name("expected.ome.zarr")
    with started(plate, output) as process:
        assert process.wait() == 0
    return contents(output)


@contextmanager
def started(plate: Path, output: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "hybridfusion_core.cli", "batch", str(plate), str(output), "--json"]
    choices = options or ("--workers", "2")
    with subprocess.Popen(  # noqa: S603  (our own program)
        [*command, "--method", "tenengrad", "--device", "cpu", "--tile", "64", *choices],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def contents(output: Path) -> tuple[Contents, Contents]:
    """All bytes of the plate and of its maps."""
    maps = output.with_name(output.name.replace(".ome.zarr", ".maps.ome.zarr"))
    plate, beside = (
        {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}
        for path in (output, maps)
    )
    return plate, beside


def read_units(process: "subprocess.Popen[str]", count: int) -> int:
    """Read lines until so many units have ended; returns how many have."""
    assert process.stdout is not None
    seen = 0
    while seen < count and (line := process.stdout.readline()):
        seen += json.loads(line)["event"] == "unit"
    return seen


def wait_within_a_unit(process: "subprocess.Popen[str]", output: Path) -> None:
    """Wait until a result is being built: what is killed now has begun and not ended."""
    staging = output.with_name(f"{output.name.removesuffix('.ome.zarr')}.hybridfusion") / "staging"
    while process.poll() is None and not (staging.is_dir() and any(staging.iterdir())):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["everything", "the master"])
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(
    whom: str, plate: Path, expected: tuple[Contents, Contents], tmp_path: Path
) -> None:
    output = tmp_path / "out.ome.zarr"
    dice = random.Random(whom)  # noqa: S311  (no secret)
    for _ in range(KILLS):
        with started(plate, output) as process:
            read_units(process, dice.randrange(3))
            wait_within_a_unit(process, output)
            (os.killpg if whom == "everything" else os.kill)(process.pid, signal.SIGKILL)
    with started(plate, output) as process:
        assert process.wait() == 0
    assert contents(output) == expected
    assert [each.name for each in output.parent.glob("out.hybridfusion/**/*.part")] == []


@pytest.mark.slow
def test_files_are_as_safe_as_a_plate(plate: Path, tmp_path: Path) -> None:
    files = ("--format", "tiff", "--workers", "2")
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    with started(plate, tmp_path / "whole" / "out", *files) as process:
        assert process.wait() == 0
    dice = random.Random("files")  # noqa: S311  (no secret)
    output = tmp_path / "parts" / "out"
    for _ in range(2):
        with started(plate, output, *files) as process:
            read_units(process, dice.randrange(3))
            wait_within_a_unit(process, output)
            os.killpg(process.pid, signal.SIGKILL)
    with started(plate, output, *files) as process:
        assert process.wait() == 0
    one, other = (contents(each)[0] for each in (tmp_path / "whole" / "out", output))
    listing = one.pop("load_data.csv").replace(b"whole", b"parts")  # it says where the files are
    assert other.pop("load_data.csv") == listing
    assert one == other


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_field_is_fused(
    plate: Path, expected: tuple[Contents, Contents], tmp_path: Path
) -> None:
    output = tmp_path / "out.ome.zarr"
    with started(plate, output) as process:
        assert read_units(process, 1) == 1
        victims = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
        victims[0].kill()
        assert process.wait() == 0
    plate_found, _ = contents(output)
    assert plate_found.keys() == expected[0].keys()


@pytest.mark.slow
def test_ctrl_c_ends_after_the_current_tiles_and_the_next_run_goes_on(
    plate: Path, expected: tuple[Contents, Contents], tmp_path: Path
) -> None:
    output = tmp_path / "out.ome.zarr"
    with started(plate, output) as process:
        assert read_units(process, 1) == 1
        os.killpg(process.pid, signal.SIGINT)
        summary = [json.loads(line) for line in process.stdout or ()][-1]
        assert process.wait() == 130
    assert summary["interrupted"]
    assert not list((tmp_path / "out.hybridfusion").glob("staging/*"))
    with started(plate, output) as process:
        summary = [json.loads(line) for line in process.stdout or ()][-1]
        assert process.wait() == 0
    assert summary["kept"] >= 1
    assert contents(output) == expected


@pytest.mark.slow
def test_a_cluster_that_is_there_gives_the_same_bytes(
    plate: Path, expected: tuple[Contents, Contents], tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", **QUIET) as others:
        assert others.scheduler is not None
        with started(plate, tmp_path / "out.ome.zarr", "--scheduler", others.scheduler_address) as process:
            assert process.wait() == 0
        file.write_text(json.dumps(others.scheduler.identity()), encoding="utf-8")
        with started(plate, tmp_path / "again.ome.zarr", "--scheduler-file", str(file)) as process:
            assert process.wait() == 0
    assert contents(tmp_path / "out.ome.zarr") == expected
    assert contents(tmp_path / "again.ome.zarr") == expected


def test_nobody_is_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT", 0.5)
    with (
        LocalCluster(n_workers=0, processes=False, **QUIET, host="127.0.0.1", protocol="tcp://") as others,
        pytest.raises(UserInputError, match=r"has no worker after 0\.5 s"),
        connected(Where(scheduler=others.scheduler_address), "cpu", 1),
    ):
        pass
    with (
        pytest.raises(UserInputError, match="No Dask scheduler answers"),
        connected(Where(scheduler="tcp://127.0.0.1:1"), "cpu", 1),
    ):
        pass
    with (
        pytest.raises(UserInputError, match="does not exist"),
        connected(Where(scheduler_file=tmp_path / "none.json"), "cpu", 1),
    ):
        pass
