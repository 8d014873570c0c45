"""`hybridfusion batch`: what it prints, how it exits, and that what failed can be given back to it."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster
from plate_makers import places as plane_places
from plate_makers import write_harmony

from hybridfusion_core.batch import fuse_field as fusing_units
from hybridfusion_core.batch import loop
from hybridfusion_core.batch.result import Event
from hybridfusion_core.cli import batch_run, main
from hybridfusion_core.plates.open import open_plate


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(autouse=True)
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in this process: starting others takes seconds."""
    monkeypatch.setattr(batch_run, "connected", lambda *_: nullcontext(client))


def run(*words: object) -> int:
    return main(["batch", *map(str, words), "--method", "tenengrad", "--device", "cpu"])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_failures_go_back_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places())
    broken = next(open_plate(folder).fields())
    file = folder / broken.frame.planes[0][1].file
    content = file.read_bytes()
    file.write_bytes(content[:100])
    output, failures = tmp_path / "out.ome.zarr", tmp_path / "out.hybridfusion" / "failures.csv"
    assert run(folder, output, "--json") == 3
    *units, summary = (each for each in lines(capsys) if each["event"] != "start")
    assert [unit["wells"] for unit in units] == [2] * 4
    assert sorted(unit["wells_done"] for unit in units)[-1] == 2
    assert [(unit["event"], unit["total"]) for unit in units] == [("unit", 4)] * 4
    assert (summary["event"], summary["fused"], summary["failed"]) == ("summary", 3, 1)
    assert run(folder, output, "--only", failures, "--json") == 3
    assert lines(capsys)[-1]["total"] == 1
    file.write_bytes(content)
    assert run(folder, output, "--only", failures, "--json") == 0
    assert lines(capsys)[-1]["fused"] == 1
    assert run(folder, output, "--only", failures, "--json") == 0  # nothing is left to do, which is a success
    assert lines(capsys)[-1]["total"] == 0
    assert run(folder, output) == 0
    assert "4 were fused before" in capsys.readouterr().out


def test_flags_are_counted_where_a_run_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blank fields are fused, and whoever only reads the last lines learns that there is nothing in them."""
    folder = write_harmony(tmp_path / "in", plane_places())
    for path in folder.rglob("*.tif*"):
        tifffile.imwrite(path, np.zeros_like(tifffile.imread(path)))
    assert run(folder, tmp_path / "out.ome.zarr", "--json") == 0
    assert lines(capsys)[-1]["flagged"]["empty"] == 4
    assert run(folder, tmp_path / "again.ome.zarr") == 0
    assert "4 empty" in capsys.readouterr().out


def test_people_are_told_what_failed_and_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places())
    (folder / next(open_plate(folder).fields()).frame.planes[0][1].file).unlink()
    assert run(folder, tmp_path / "out.ome.zarr") == 3
    said = capsys.readouterr()
    assert "B03 field 1 time 0 failed" in said.err
    assert "3 of 4 focal stacks fused" in said.out
    assert str(tmp_path / "out.hybridfusion" / "report.html") in said.out
    assert str(tmp_path / "out.hybridfusion" / "failures.csv") in said.out


def test_people_see_wells_rate_time_left_and_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places())
    (folder / next(open_plate(folder).fields()).frame.planes[0][1].file).write_bytes(b"")
    assert run(folder, tmp_path / "out.ome.zarr") == 3
    line = [each for each in capsys.readouterr().err.splitlines() if each.startswith("fusing: 100 %")][-1]
    assert re.fullmatch(r"fusing: 100 %, [0-9.]+ fields/\w+, 0 s left, 2 of 2 wells done, 1 failed", line)


def test_machines_see_what_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(fields=(1,)))
    told = threading.Event()
    monkeypatch.setattr(loop, "_TICK", 0.01)
    monkeypatch.setattr(
        fusing_units, "fuse_into", lambda *rest, _old=fusing_units.fuse_into: told.wait(60) and _old(*rest)
    )

    def show(event: Event, *rest: object, _old: object = batch_run._show, **options: object) -> None:
        _old(event, *rest, **options)
        if event.stage == "fusing" and event.outcome is None:
            told.set()

    monkeypatch.setattr(batch_run, "_show", show)
    assert run(folder, tmp_path / "out.ome.zarr", "--json") == 0
    first, *rest = lines(capsys)
    assert (first["event"], first["well"], first["done"], first["total"]) == ("start", "B03", 0, 2)
    assert {"well": "B03", "status": "done"}.items() <= rest[0].items() or rest[0]["event"] == "start"
    assert [each["well"] for each in rest if each["event"] == "unit"] == ["B03", "B04"]


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.maps.ome.zarr"])
def test_what_is_not_a_batchs_own_is_never_touched(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_harmony(tmp_path / "in", plane_places())
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    assert run(folder, tmp_path / "out.ome.zarr") == 2
    assert "no batch began it" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("output", "words", "said"),
    [
        ("out.tif", (), r"ends in .ome.zarr or .zarr"),
        ("none/out.ome.zarr", (), "does not exist"),
        ("out.ome.zarr", ("--channels", "GFP"), "no channel 'GFP'"),
        ("out.ome.zarr", ("--tile", "16", "--z", "9:"), "leaves none of the 3 slices"),
    ],
)
def test_wrong_requests_write_no_plate(
    output: str, words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_harmony(tmp_path / "in", plane_places())
    assert run(folder, tmp_path / output, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.ome.zarr").exists()
    assert run(folder, tmp_path / "out.ome.zarr") == 0  # nothing stands in the way of the right one


def test_times_that_were_chosen_are_the_times_of_the_image(tmp_path: Path) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(times=(0, 1, 2), wells=((2, 3),), fields=(1,)))
    assert run(folder, tmp_path / "out.ome.zarr", "--times", "1:") == 0
    assert len(list(open_plate(tmp_path / "out.ome.zarr").fields())) == 2
