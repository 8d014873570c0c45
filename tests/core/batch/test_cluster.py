"""A cluster as it is: workers that cannot take part, that come late, that go, and that belong to others too."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from plate_makers import places, write_harmony

from hybridfusion_core.batch import scheduler
from hybridfusion_core.batch.api import plan_batch, run_batch
from hybridfusion_core.batch.result import Event
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.errors import UserInputError

QUIET = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
REQUEST = {"method": "tenengrad", "device": "cpu", "tile": 16}
# What makes a worker unfit, as a module that it loads before anything else.
UNFIT = {
    "old": "from hybridfusion_core.fusion import api\napi.ALGORITHM_VERSION += 1\n",
    "blind": "from hybridfusion_core.batch import fitness\nfitness._sees = lambda _: False\n",
}


@contextmanager
def worker(address: str, folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process `dask worker`: "bare" has no package of ours, "old" and "blind" are unfit, all others are fit."""
    environment, preload = dict(os.environ), []
    if name == "bare":
        package = folder / "bare" / "hybridfusion_core"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ModuleNotFoundError('no hybridfusion_core')\n")
        environment["PYTHONPATH"] = str(package.parent)
    elif name in UNFIT:
        (folder / f"{name}.py").write_text(UNFIT[name])
        preload = ["--preload", str(folder / f"{name}.py")]
    options = ["--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    with subprocess.Popen(  # noqa: S603  (our own program)
        [sys.executable, "-m", "distributed.cli.dask_worker", address, *options, *preload],
        env=environment,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def contents(output: Path) -> dict[str, bytes]:
    found = [each for each in output.parent.rglob("*") if each.is_file() and ".hybridfusion" not in str(each)]
    return {str(each.relative_to(output.parent)): each.read_bytes() for each in found}


@pytest.mark.slow
def test_unfit_workers_take_no_part_and_lost_ones_change_nothing(tmp_path: Path) -> None:
    wells = [(row, column) for row in range(1, 5) for column in range(1, 7)]
    folder_in = write_harmony(tmp_path / "in", places(wells=wells))  # 48 fields
    for folder in ("calm", "wild"):
        (tmp_path / folder).mkdir()
    calm = plan_batch(folder_in, tmp_path / "calm" / "out.ome.zarr", **REQUEST)
    wild = plan_batch(folder_in, tmp_path / "wild" / "out.ome.zarr", **REQUEST)
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(n_workers=0, host="127.0.0.1", protocol="tcp://", **QUIET))
        client = stack.enter_context(Client(cluster, set_as_default=False))
        address = cluster.scheduler_address

        def join(name: str) -> "subprocess.Popen[bytes]":
            return stack.enter_context(worker(address, tmp_path, name))

        first = join("first")
        bare, _ = join("bare"), join("old")
        client.wait_for_workers(3, timeout=300)
        seen: list[str] = []
        fit = [first]

        def disturb(event: Event) -> None:
            """While it measures and twice while it fuses, another worker comes and the one before it is killed."""
            if event.outcome is None:
                return
            seen.append(event.stage)
            count = seen.count(event.stage)
            if (event.stage, count) in {("measuring", 3), ("fusing", 5), ("fusing", 25)}:
                if event.stage == "measuring":
                    join("blind")
                fit.append(join(f"fit{len(fit)}"))
                client.wait_for_workers(5 if event.stage == "measuring" else 4, timeout=300)
                fit[-2].kill()

        result = run_batch(wild, where=Where(scheduler=address), report=disturb)
        assert (result.fused, result.failures) == (48, [])
        reasons = sorted(result.refused.values())
        assert len(reasons) == 3, reasons
        assert any("does not have this version of napari-hybridfusion" in each for each in reasons)
        assert any("version" in each and "algorithm" in each for each in reasons)
        assert any("does not see the plate" in each for each in reasons)
        report = (tmp_path / "wild" / "out.hybridfusion" / "report.html").read_text(encoding="utf-8")
        assert "took no part" in report
        # Nothing of ours stays: the bare worker is still there, and another one may come.
        assert bare.poll() is None
        assert not [name for name in cluster.scheduler.worker_plugins if "hybridfusion" in name]
        assert run_batch(calm, where=Where(scheduler=address)).fused == 48
    records = (tmp_path / "wild" / "out.hybridfusion" / "units").rglob("*.json")
    assert len({json.loads(each.read_text())["algorithm_version"] for each in records}) == 1
    assert contents(calm.choices.output) == contents(wild.choices.output)


@contextmanager
def mute() -> Iterator[int]:
    """A port that takes connections, and is no Dask scheduler."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_scheduler_that_does_not_answer_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_ANSWER", 0.5)
    assert scheduler.Where(scheduler=None).check() is None
    with mute() as port:
        for address, said in {
            "localhost": "has no port",
            "tcp://127.0.0.1": "has no port",
            "tcp://127.0.0.1:1": "No Dask scheduler answers",
            f"127.0.0.1:{port}": "No Dask scheduler answers",
        }.items():
            with pytest.raises(UserInputError, match=said):
                Where(scheduler=address).check()
            with pytest.raises(UserInputError, match=said), connected(Where(scheduler=address), "cpu", 1):
                pass


def test_workers_that_do_not_start_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(scheduler, "LocalCluster", late)
    with pytest.raises(UserInputError, match="2 workers did not start"), connected(Where(2), "cpu", 9):
        pass
