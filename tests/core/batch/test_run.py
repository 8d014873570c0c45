"""A whole batch: what is missing is fused, what failed is told, and nothing depends on who did it or how often."""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr
from distributed import Client, Future, KilledWorker, LocalCluster
from plate_makers import harmony_image, harmony_index, harmony_name, write_harmony, write_plane
from plate_makers import places as plane_places

from hybridfusion_core.batch import fit_workers, fitness, measuring, plate_settings
from hybridfusion_core.batch import fuse_field as fusing_units
from hybridfusion_core.batch import scheduler as cluster
from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.records.failure_list import read_failures
from hybridfusion_core.batch.records.paths import BatchPaths, key_of
from hybridfusion_core.batch.records.store import read_json
from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.run import Connect, run_plate
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io.disk.lock import Lock
from hybridfusion_core.io.verify import verify
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import Selection, select

QUIET = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
TENENGRAD = make_request(method="tenengrad", device="cpu", tile=16)


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    """A cluster in this process: its workers are threads."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **QUIET) as here,
        Client(here) as client,
    ):
        yield lambda _: nullcontext(client)


@contextmanager
def nobody(_: int) -> Iterator[Client]:
    pytest.fail("there is nothing to compute")
    yield


def a_plate(tmp_path: Path, **which: object) -> Plate:
    return open_plate(write_harmony(tmp_path / "in", plane_places(**which)))


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


EVERYTHING = Selection()


def run(plate: Plate, output: Path, connect: Connect, chosen: Selection = EVERYTHING, **choices: object) -> Result:
    return run_plate(plate, select(plate, chosen), Choices(output, TENENGRAD, **choices), connect)


def test_running_again_does_nothing(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    first = run(plate, tmp_path / "out.ome.zarr", connect)
    assert (first.fused, first.kept, first.failures) == (4, 0, [])
    before = contents(tmp_path)
    again = run(plate, tmp_path / "out.ome.zarr", nobody)
    assert (again.fused, again.kept) == (0, 4)
    assert contents(tmp_path) == before


def test_in_parts_or_in_one_go_the_plate_is_the_same(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, times=(0, 1))
    run(plate, tmp_path / "whole.ome.zarr", connect)
    for chosen in (Selection(pilot=1), Selection(fields="2"), Selection(times="1"), Selection()):
        run(plate, tmp_path / "parts.ome.zarr", connect, chosen)
    for suffix in (".ome.zarr", ".maps.ome.zarr"):
        assert contents(tmp_path / f"whole{suffix}") == contents(tmp_path / f"parts{suffix}")


def test_only_what_has_changed_is_done_again(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    run(plate, tmp_path / "out.ome.zarr", connect)
    changed = next(plate.fields())
    file = Path(plate.folder) / changed.frame.planes[0][0].file
    os.utime(file, ns=(1, 1))
    again = run(plate, tmp_path / "out.ome.zarr", connect)
    assert (again.fused, again.kept) == (1, 3)


def test_a_broken_field_is_told_and_the_others_are_fused(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    gone, cut = list(plate.fields())[:2]
    intact = tmp_path / "intact"
    shutil.copytree(plate.folder, intact)
    (Path(plate.folder) / gone.frame.planes[0][1].file).unlink()
    (Path(plate.folder) / cut.frame.planes[1][1].file).write_bytes(b"II*\0")
    plate = open_plate(plate.folder)
    events: list[Event] = []
    result = run_plate(
        plate, select(plate, Selection()), Choices(tmp_path / "out.ome.zarr", TENENGRAD), connect, events.append
    )
    assert result.fused == 2
    assert sorted(unit.name for unit, _ in result.failures) == sorted([gone.name, cut.name])
    assert all(reason for _, reason in result.failures)
    ended = [event.done for event in events if event.stage == "fusing" and event.outcome is not None]
    assert ended == [1, 2, 3, 4]
    assert len(list(open_plate(tmp_path / "out.ome.zarr").fields())) == 2
    # Once it is repaired, it is fused as if nothing had been wrong.
    shutil.copytree(intact, plate.folder, dirs_exist_ok=True)
    plate = open_plate(plate.folder)
    again = run(plate, tmp_path / "out.ome.zarr", connect)
    assert (again.fused, again.kept, again.failures) == (2, 2, [])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1, "status": "done"}', b"\xff", b'{"format": 9}'])
def test_a_damaged_record_of_a_unit_has_it_fused_again(content: bytes, tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    run(plate, paths.output, connect)
    before = contents(paths.output)
    paths.record(key_of(next(plate.fields())), 0).write_bytes(content)
    again = run(plate, paths.output, connect)
    assert (again.fused, again.kept) == (1, 1)
    assert contents(paths.output) == before


def test_a_failed_time_point_costs_that_time_point_only(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, times=(0, 1), wells=((2, 3),))
    # Statistics of the plate would lack what cannot be read, and stay so.
    run(plate, tmp_path / "whole.ome.zarr", connect, stats="field")
    late = next(unit for unit in plate.fields() if unit.t == 1)
    file = Path(plate.folder) / late.frame.planes[0][1].file
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(b"")
    output = tmp_path / "out.ome.zarr"
    result = run(open_plate(plate.folder), output, connect, stats="field")
    assert (result.fused, len(result.failures)) == (3, 1)
    assert any("missing_times" in warning for warning in result.warnings)
    assert {unit.field for unit in open_plate(output).fields()} == {"1", "2"}
    image = zarr.open_group(output / "B" / "03" / "1", mode="r")
    assert image.attrs["hybridfusion"]["missing_times"] == [1]
    assert np.asarray(image["0"][0]).min() > 0
    assert verify(output) == []
    # Repaired, nothing of it is left.
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(open_plate(plate.folder), output, connect, stats="field").fused == 1
    for suffix in (".ome.zarr", ".maps.ome.zarr"):
        assert contents(tmp_path / f"out{suffix}") == contents(tmp_path / f"whole{suffix}")


def test_a_plate_is_fused_in_one_way(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    run(plate, tmp_path / "out.ome.zarr", connect)
    before = contents(tmp_path)
    with pytest.raises(UserInputError, match='stats: "plate" then, "field" now'):
        run(plate, tmp_path / "out.ome.zarr", nobody, stats="field")
    assert contents(tmp_path) == before


def test_settings_are_resolved_once(tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    run(plate, tmp_path / "out.ome.zarr", connect, Selection(fields="1"))
    stored = read_json(BatchPaths(tmp_path / "out.ome.zarr").run_record)
    monkeypatch.setattr(plate_settings, "settle", lambda *_: pytest.fail("it is resolved already"))
    run(plate, tmp_path / "out.ome.zarr", connect)
    assert read_json(BatchPaths(tmp_path / "out.ome.zarr").run_record) == stored
    assert stored is not None
    assert stored["settings"]["tile"] == 16
    assert set(stored["statistics"]) == {""}


def test_statistics_are_those_of_the_plate_the_well_or_the_field(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    used: dict[str, dict[str, str]] = {}
    for stats in ("plate", "well", "field"):
        paths = BatchPaths(tmp_path / f"{stats}.ome.zarr")
        run(plate, paths.output, connect, stats=stats)
        records = {unit.name: read_json(paths.record(key_of(unit), 0)) or {} for unit in plate.fields()}
        used[stats] = {name: str(record["statistics"]) for name, record in records.items()}
    assert [len(set(each.values())) for each in used.values()] == [1, 2, 4]


def test_two_runs_on_one_output_exclude_each_other(tmp_path: Path) -> None:
    plate = a_plate(tmp_path)
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    paths.folder.mkdir()
    lock = Lock(paths.lock, paths.output)
    with pytest.raises(UserInputError, match="being written by another process"):
        run(plate, paths.output, nobody)
    lock.release()


def test_a_full_disk_stops_the_run_and_nothing_is_blamed(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = a_plate(tmp_path)

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(fusing_units, "fuse_into", full)
        result = run(plate, tmp_path / "out.ome.zarr", connect)
    assert "no room left" in result.full
    assert (result.fused, result.failures) == (0, [])
    assert run(plate, tmp_path / "out.ome.zarr", connect).fused == 4


def test_workers_of_another_kind_are_refused(tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = a_plate(tmp_path)
    monkeypatch.setattr(fitness, "ALGORITHM_VERSION", 999)
    with pytest.raises(UserInputError, match=r"(?s)None of 1 workers.*has version 999 of the algorithm, not"):
        run(plate, tmp_path / "out.ome.zarr", connect)


RELEASED = threading.Event()


def hang(*_: object) -> None:
    RELEASED.wait(60)


def test_a_worker_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_workers, "WAIT", 0.2)
    monkeypatch.setattr(fit_workers, "_TICK", 0.1)
    monkeypatch.setattr(fit_workers, "examined", hang)
    try:
        with pytest.raises(UserInputError, match=r"(?s)None of 1 workers.*has not answered within 0\.2 s"):
            run(a_plate(tmp_path), tmp_path / "out.ome.zarr", connect)
    finally:
        RELEASED.set()


def die(*_: object) -> None:
    raise KilledWorker("settle", SimpleNamespace(address="tcp://gone:1"), 1)


def test_a_worker_that_dies_before_anything_is_settled_is_explained(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = a_plate(tmp_path)
    with monkeypatch.context() as dying:
        dying.setattr(plate_settings, "_settled", die)
        with pytest.raises(UserInputError, match="Workers died while they opened a field"):
            run(plate, tmp_path / "out.ome.zarr", connect)
    assert not BatchPaths(tmp_path / "out.ome.zarr").run_record.exists()
    assert run(plate, tmp_path / "out.ome.zarr", connect).fused == 4


def test_every_worker_of_this_computer_gets_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [cluster.default_workers("auto", units) for units in (1, 2, 9)] == [1, 2, 3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert cluster.default_workers("auto", 9) == 2
    plugin = cluster.OneGpu(["4", "GPU-7"])
    seen = []
    for number in range(3):
        plugin.setup(SimpleNamespace(name=number))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "GPU-7", "4"]
    monkeypatch.setattr(cluster, "resolve_device", lambda _: torch.device("cuda:1"))
    assert cluster.default_workers("cuda:1", 9) == 1


def test_a_model_that_was_replaced_is_refused(tmp_path: Path, connect: Connect, tiny_model: str) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    model = tmp_path / "model.safetensors"
    shutil.copy(tiny_model, model)
    request = make_request(model=str(model), device="cpu", tile=16)
    choices = Choices(tmp_path / "out.ome.zarr", request)
    assert run_plate(plate, select(plate, Selection(fields="1")), choices, connect).fused == 1
    from hybridfusion_core.model.model_file import load_model, save_model

    stored = load_model(str(model))
    save_model(model, stored.network, replace(stored.card, limits="others"))
    with pytest.raises(UserInputError, match="another one than when this plate was begun"):
        run_plate(plate, select(plate, EVERYTHING), choices, connect)


def test_a_damaged_run_record_is_refused(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),))
    run(plate, tmp_path / "out.ome.zarr", connect, Selection(fields="1"))
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    text = paths.run_record.read_text(encoding="utf-8")
    paths.run_record.write_text(text.replace('"block"', '"blok"'), encoding="utf-8")
    with pytest.raises(StoredDataError, match="does not say how fields are fused"):
        run(plate, tmp_path / "out.ome.zarr", connect)


def test_nobody_reads_pixels_that_were_never_written(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, times=(0, 1))
    run(plate, tmp_path / "out.ome.zarr", connect)
    for unit in open_plate(tmp_path / "out.ome.zarr").fields():
        image = zarr.open_group(tmp_path / "out.ome.zarr" / unit.row / unit.column / unit.field, mode="r")
        assert np.asarray(image["0"][unit.t]).min() > 0


def test_who_cannot_press_ctrl_c_stops_it_too(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path)
    choices = Choices(tmp_path / "out.ome.zarr", TENENGRAD)
    units = select(plate, Selection())
    # Before anything is resolved: statistics that are half measured are not written down.
    early = run_plate(plate, units, choices, connect, stop=lambda: True)
    assert (early.interrupted, early.fused, early.kept, early.failures) == (True, 0, 0, [])
    assert not BatchPaths(choices.output).run_record.exists()
    events: list[Event] = []
    late = run_plate(
        plate, units, choices, connect, events.append, stop=lambda: any(event.stage == "fusing" for event in events)
    )
    assert late.interrupted
    assert late.failures == []
    assert run(plate, choices.output, connect).kept == late.fused
    run(plate, tmp_path / "whole.ome.zarr", connect)
    assert contents(tmp_path / "whole.ome.zarr") == contents(choices.output)


def test_a_result_that_went_with_its_worker_is_asked_for_again(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask would wait without end for the result of a task that ended on a worker that is gone."""
    lost: list[Future] = []

    def fetched(future: Future, timeout: float | None = None, _old: Callable[..., object] = Future.result) -> object:
        assert timeout is not None
        value = _old(future, timeout)
        if isinstance(value, Outcome) and value.seconds and len(lost) < 3:
            lost.append(future)
            raise TimeoutError
        return value

    monkeypatch.setattr(Future, "result", fetched)
    result = run(a_plate(tmp_path), tmp_path / "out.ome.zarr", connect)
    assert len(lost) == 3
    assert (result.fused, result.failures) == (4, [])


def test_five_kinds_of_broken_fields_are_told_and_all_others_are_fused(tmp_path: Path, connect: Connect) -> None:
    wells = [(row, column) for row in range(1, 4) for column in range(1, 5)]
    which = plane_places(wells=wells, channels=(1,))
    folder = write_harmony(tmp_path / "in", which)

    def plane(well: int, z: int = 2) -> Path:
        return folder / harmony_name(*wells[well], 1, 0, 1, z)

    plane(1).unlink()
    plane(2).write_bytes(plane(2).read_bytes()[:-200])
    write_plane(plane(4), 7, "uint32")
    write_plane(plane(6), 7, shape=(12, 16))
    images = [harmony_image(place, state="Failed" if place == (*wells[7], 1, 0, 1, 1) else "Ok") for place in which]
    images.append(harmony_image((*wells[9], 1, 0, 1, 1), url=harmony_name(*wells[10], 1, 0, 1, 1)))
    (folder / "Index.xml").write_text(harmony_index(images), encoding="utf-8")
    plate = open_plate(folder)
    output = tmp_path / "out.ome.zarr"
    result = run(plate, output, connect, stats="field")
    said = {unit.well: reason for unit, reason in result.failures if unit.field == "1"}
    name = {at: f"{chr(64 + wells[at][0])}{wells[at][1]:02d}" for at in (1, 2, 4, 6, 7, 9, 10)}
    assert said.keys() == set(name.values())
    for at, reason in (
        (1, "missing|no file|not there"),
        (2, "cut short|truncated|bytes"),
        (4, "uint32"),
        (6, "12 × 16"),
    ):
        assert re.search(reason, said[name[at]]), said[name[at]]
    for at, reason in ((7, "Failed"), (9, "are both its z 1|also another plane"), (10, "also another plane")):
        assert re.search(reason, said[name[at]]), said[name[at]]
    assert (result.fused, len(result.failures)) == (17, 7)
    assert len(list(open_plate(output).fields())) == 17
    # Nothing black: every plane holds a number of its own above 0.
    for unit in list(open_plate(output).fields())[::2]:
        image = zarr.open_group(output / unit.row / unit.column / unit.field, mode="r")
        assert np.asarray(image["0"][:]).min() > 0
    write_reports(plate, result)
    failed = read_failures(BatchPaths(output).failures)
    assert failed == {(well, "1", 0) for well in name.values()}
    again = run(plate, output, connect, Selection(only=failed), stats="field")
    assert (again.fused, again.kept, len(again.failures)) == (0, 0, 7)


def test_what_statistics_lack_is_named_and_they_stay(tmp_path: Path, connect: Connect) -> None:
    plate = a_plate(tmp_path, wells=((2, 3),), fields=(1, 2, 3))
    unit = next(plate.fields())
    file = Path(plate.folder) / unit.frame.planes[0][1].file
    content = file.read_bytes()
    file.write_bytes(b"II*\0")
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    first = run(open_plate(plate.folder), paths.output, connect)
    assert any("lack 1 fields that could not be read" in warning for warning in first.warnings)
    before = read_json(paths.run_record) or {}
    assert [(each["well"], each["field"]) for each in before["left_out"]] == [(unit.well, unit.field)]
    file.write_bytes(content)
    again = run(open_plate(plate.folder), paths.output, connect)
    assert (again.fused, again.kept) == (1, 2)
    assert any("--overwrite measures anew" in warning for warning in again.warnings)
    assert read_json(paths.run_record) == before


def test_a_worker_that_is_lost_while_it_measures_changes_no_statistics(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = a_plate(tmp_path)
    run(plate, tmp_path / "calm.ome.zarr", connect)
    lost: list[object] = []

    def once(task: Task, settings: Settings) -> Outcome:
        if len(lost) < 2:
            lost.append(task)
            raise KilledWorker("measure", SimpleNamespace(address="tcp://gone:1"), 1)
        return fusing_units.measure_unit(task, settings)

    LOSING["measure"] = once
    monkeypatch.setattr(measuring, "measure_unit", losing)
    result = run(plate, tmp_path / "wild.ome.zarr", connect)
    assert (len(lost), result.fused, result.warnings) == (2, 4, [])
    calm, wild = (read_json(BatchPaths(tmp_path / f"{name}.ome.zarr").run_record) or {} for name in ("calm", "wild"))
    assert calm["statistics"] == wild["statistics"]
    assert contents(tmp_path / "calm.ome.zarr") == contents(tmp_path / "wild.ome.zarr")


LOSING: dict[str, Callable[[Task, Settings], Outcome]] = {}


def losing(task: Task, settings: Settings) -> Outcome:
    """What can be sent by its name."""
    return LOSING["measure"](task, settings)
