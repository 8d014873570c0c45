"""One unit of a batch: its pixels go to their place in the plate, and it is written down how it ended."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import tifffile
import yaozarrs
import zarr
from plate_makers import PLAIN, write_harmony, write_plain, write_plane
from plate_makers import places as plane_places
from scipy.ndimage import gaussian_filter

from hybridfusion_core.batch import fuse_field as fusing_units
from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.fuse_field import fuse_unit, measure_unit
from hybridfusion_core.batch.output.format import PLATE, OutputFormat
from hybridfusion_core.batch.output.plate import Publisher, merged
from hybridfusion_core.batch.records.finished import finished
from hybridfusion_core.batch.records.paths import BatchPaths, key_of, safe_name
from hybridfusion_core.batch.records.store import (
    begin_session,
    end_session,
    read_json,
    run_record,
    starts_in_run,
    write_json,
)
from hybridfusion_core.batch.report.field_table import field_rows
from hybridfusion_core.batch.task import Settings, Task
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.io.verify import verify
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.plates.acquired import with_acquired_times
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate, PlateField
from hybridfusion_core.registration.placement import placement_of
from hybridfusion_core.scenes.samples.write import write_sample

TENENGRAD = make_request(method="tenengrad", device="cpu", threads=1, tile=64)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    path = tmp_path_factory.mktemp("sample") / "plate.ome.zarr"
    write_sample("plate", path)
    return open_plate(path)


def a_run(
    tmp_path: Path, session: str = "session", output_format: OutputFormat = PLATE, **changes: object
) -> tuple[BatchPaths, Settings]:
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    begin_session(paths, session)
    paths.staging.mkdir(exist_ok=True)
    return paths, replace(
        Settings(Choices(paths.output, TENENGRAD, output_format=output_format), session, block=128, z_chunk=4),
        **changes,
    )


def with_request(settings: Settings, request: FuseRequest) -> Settings:
    return replace(settings, choices=replace(settings.choices, request=request))


def pixels(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


def publish(plate: Plate, paths: BatchPaths, units: list[PlateField], ngff: Ngff = "0.5") -> None:
    publisher = Publisher(plate, paths, ngff)
    for unit in (each for each in units if each.t == 0):
        records = [read_json(paths.record(key_of(each), each.t)) for each in units if key_of(each) == key_of(unit)]
        publisher.add(key_of(unit), [each for each in records if each is not None])
    publisher.publish()


@pytest.mark.parametrize("ngff", ["0.5", pytest.param("0.4", marks=pytest.mark.slow)])
def test_a_plate_of_fused_fields_is_valid_and_holds_what_fuse_gives(ngff: Ngff, sample: Plate, tmp_path: Path) -> None:
    paths, settings = a_run(tmp_path, output_format=OutputFormat(ngff=ngff))
    units = list(sample.fields())
    assert [fuse_unit(Task(unit), settings).status for unit in units] == ["done"] * 8
    publish(sample, paths, units, ngff)
    assert verify(paths.output) == []
    for path in (paths.output, paths.maps):
        yaozarrs.validate_zarr_store(str(path))
        ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"))
    with open_field(units[3]) as stack:
        expected = fuse(stack, method="tenengrad", tile=64)
    field = zarr.open_group(paths.output / "B" / "3" / "1", mode="r")
    assert np.array_equal(field["0"][:], expected.fused)
    assert np.array_equal(field["labels/decision/0"][:], expected.decision)
    fused = open_plate(paths.output)
    assert [unit.name for unit in fused.fields()] == [unit.name for unit in units]
    assert fused.imaging.channels == sample.imaging.channels
    assert (fused.imaging.y, fused.imaging.x) == (sample.imaging.y, sample.imaging.x)
    assert (fused.name, fused.rows, fused.columns) == (sample.name, sample.rows, sample.columns)
    assert list(paths.staging.iterdir()) == []


def test_only_finished_fields_are_listed(sample: Plate, tmp_path: Path) -> None:
    paths, settings = a_run(tmp_path)
    units = list(sample.fields())[2:3]
    assert fuse_unit(Task(units[0]), settings).status == "done"
    publish(sample, paths, units)
    assert [unit.name for unit in open_plate(paths.output).fields()] == [units[0].name]
    publish(sample, paths, [])
    assert not (paths.output / "zarr.json").exists()


def test_old_and_new_versions_of_a_plate_hold_the_same(sample: Plate, tmp_path: Path) -> None:
    found = {}
    unit = next(sample.fields())
    for ngff in ("0.4", "0.5"):
        (tmp_path / ngff).mkdir()
        paths, settings = a_run(tmp_path / ngff, output_format=OutputFormat(ngff=ngff))
        assert fuse_unit(Task(unit), settings).status == "done"
        publish(sample, paths, [unit], ngff)
        plate = open_plate(paths.output)
        with open_field(next(plate.fields())) as stack:
            found[ngff] = stack.read(0, 0, [0], slice(None), slice(None)), replace(plate, folder="", metadata=())
    assert np.array_equal(found["0.4"][0], found["0.5"][0])
    assert found["0.4"][1] == found["0.5"][1]


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_time_points_share_an_image_in_whichever_order_they_come(ngff: Ngff, tmp_path: Path) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(times=(0, 1, 2), wells=((2, 3),), fields=(1,)))
    plate = open_plate(folder)
    units = list(plate.fields())
    together, apart = a_run(tmp_path)[0], BatchPaths(tmp_path / "other.ome.zarr")
    begin_session(apart, "session")
    for paths, order in ((together, units), (apart, units[::-1])):
        paths.staging.mkdir(exist_ok=True)
        settings = Settings(
            Choices(paths.output, TENENGRAD, output_format=OutputFormat(ngff=ngff)), "session", block=128, z_chunk=4
        )
        for unit in order:
            assert fuse_unit(Task(unit, index=unit.t, times=3), settings).status == "done"
        publish(plate, paths, units, ngff)
    assert pixels(together.output) == pixels(apart.output)
    assert pixels(together.maps) == pixels(apart.maps)
    yaozarrs.validate_zarr_store(str(together.output))
    field = zarr.open_group(together.output / "B" / "03" / "1", mode="r")
    assert field["0"].shape[:2] == (3, 2)
    for unit in units:
        with open_field(unit) as stack:
            assert np.array_equal(field["0"][unit.t : unit.t + 1], fuse(stack, method="tenengrad").fused)
    move = dict(field.attrs).get("ome", field.attrs)["multiscales"][0]["datasets"][0]["coordinateTransformations"][1][
        "translation"
    ]
    assert move[3:] == pytest.approx([200 - 0.296 * 23 / 2, 100 - 0.296 * 31 / 2])


def test_a_channel_that_was_not_acquired_reads_as_zeros_and_the_others_decide_without_it(tmp_path: Path) -> None:
    planes = [*plane_places(channels=(1,), times=(0, 1), wells=((2, 3),), fields=(1,))]
    folder = write_plain(tmp_path / "in", [*planes, *plane_places(channels=(2,), wells=((2, 3),), fields=(1,))])
    noise = np.random.default_rng(5)
    for path in folder.rglob("*.tif"):
        tifffile.imwrite(path, np.kron(noise.integers(90, 9000, (6, 8), "uint16"), np.ones((8, 8), "uint16")))
    plate = with_acquired_times(open_plate(folder, pattern=PLAIN), None)
    units = list(plate.fields())
    paths, settings = a_run(tmp_path)
    for unit in units:
        assert fuse_unit(Task(unit, unit.t, 2), settings).status == "done"
    publish(plate, paths, units)
    field = zarr.open_group(paths.output / "B" / "03" / "1", mode="r")
    with open_field(units[1], channels=["1"]) as alone:
        expected = fuse(alone, method="tenengrad")
    assert np.array_equal(field["0"][1, 0], expected.fused[0, 0])
    assert np.array_equal(field["labels/decision/0"][1], expected.decision[0])
    assert not field["0"][1, 1].any()
    assert field["0"][0, 1].any()
    assert field.attrs["hybridfusion"]["not_acquired"] == {"2": [1]}
    rows = {row.unit.t: row.not_acquired for row in field_rows(plate, paths, {key_of(units[0]): set()})}
    assert rows == {0: (), 1: ("2",)}
    # One that decides for itself decides nothing where it is absent, and the record names it.
    (tmp_path / "each").mkdir()
    paths, settings = a_run(tmp_path / "each")
    settings = replace(settings, choices=replace(settings.choices, request=replace(TENENGRAD, focus_from="each")))
    assert fuse_unit(Task(units[1], 1, 2), settings).status == "done"
    decision = zarr.open_array(paths.output / "B" / "03" / "1" / "labels" / "decision" / "0", mode="r")[1]
    assert decision[0].any()
    assert not decision[1].any()
    record = read_json(paths.record(key_of(units[1]), 1))
    assert record is not None
    assert record["not_acquired"] == ["2"]


def test_a_channel_that_decides_for_itself_decides_nothing_where_it_was_not_acquired(tmp_path: Path) -> None:
    planes = [*plane_places(channels=(1,), times=(0, 1), wells=((2, 3),), fields=(1,))]
    folder = write_plain(tmp_path / "in", [*planes, *plane_places(channels=(2,), wells=((2, 3),), fields=(1,))])
    plate = with_acquired_times(open_plate(folder, pattern=PLAIN), None)
    paths, settings = a_run(tmp_path)
    settings = replace(
        settings, choices=replace(settings.choices, request=replace(TENENGRAD, focus_from="each", method="tenengrad"))
    )
    unit = list(plate.fields())[1]
    measured = tuple(measure_unit(Task(unit), settings).value)
    assert fuse_unit(Task(unit, 1, 2, measured), settings).status == "done"
    image = paths.output / "B" / "03" / "1"
    assert not zarr.open_array(image / "labels" / "decision" / "0", mode="r")[1, 1].any()
    assert not zarr.open_array(image / "0", mode="r")[1, 1].any()
    record = read_json(paths.record(key_of(unit), 1))
    assert record is not None
    assert record["not_acquired"] == ["2"]
    assert [each["best_slice"] for each in record["figures"]["focus"] if each["channel"] == "2"] == [None]
    assert any("Nothing is in focus in any slice of" in each and "2" in each for each in record["warnings"])


def test_a_saturated_slice_has_no_weight_with_statistics_of_the_plate_either(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "in", plane_places(wells=((2, 3),), fields=(1,), channels=(1,)))
    noise = np.random.default_rng(5)
    for index, path in enumerate(sorted(folder.rglob("*.tif"))):
        tifffile.imwrite(
            path, noise.integers(90, 900, (48, 64), "uint16") if index else np.full((48, 64), 65535, "uint16")
        )
    unit = next(open_plate(folder, pattern=PLAIN).fields())
    paths, settings = a_run(tmp_path)
    measured = [replace(each, blank=()) for each in measure_unit(Task(unit), settings).value]
    assert fuse_unit(
        Task(replace(unit, frame=replace(unit.frame, dropped=(9,))), statistics=tuple(measured)), settings
    ).flags[-1:] == ("missing slices",)
    assert zarr.open_array(paths.output / "B" / "03" / "1" / "0", mode="r")[...].max() < 1000
    record = read_json(paths.record(key_of(unit), 0))
    assert record is not None
    assert any("Slice 1 (counted from 1) is constant" in each for each in record["warnings"])
    assert record["figures"]["dropped"] == [9]


def test_each_field_takes_its_own_transforms_from_an_earlier_batch(tmp_path: Path) -> None:
    folder = write_plain(
        tmp_path / "in", plane_places(wells=((2, 3),), fields=(1, 2), slices=(1, 2, 3, 4, 5), channels=(1,))
    )
    texture = gaussian_filter(np.random.default_rng(0).uniform(0, 9000, (2, 140, 150)), (0, 1.5, 1.5))
    for path in folder.rglob("*.tif"):
        field, z = (int(re.search(rf"{letter}(\d+)", path.name)[1]) for letter in "fz")
        moved = 3 * z if field == 1 else 16 - 2 * z
        tifffile.imwrite(path, texture[field - 1, 6:134, moved : moved + 128].astype(np.uint16))
    units = list(open_plate(folder, pattern=PLAIN).fields())
    (tmp_path / "a").mkdir()
    paths, settings = a_run(tmp_path / "a")
    request = replace(TENENGRAD, align="shift", products=("fused",))
    for unit in units:
        assert fuse_unit(Task(unit), with_request(settings, request)).reason == ""
    places = [placement_of(json.loads(paths.transforms(key_of(unit), 0).read_text())) for unit in units]
    assert [place.frame(0)[0].dx for place in places] == pytest.approx([6, -4], abs=0.1)
    (tmp_path / "b").mkdir()
    again, settings = a_run(tmp_path / "b")
    request = replace(TENENGRAD, align_from=str(paths.folder), products=("fused",))
    paths.transforms(key_of(units[1]), 0).unlink()
    outcomes = [fuse_unit(Task(unit), with_request(settings, request)) for unit in units]
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    assert "has no transforms of well B03 field 2 at time 0" in outcomes[1].reason
    fused = [zarr.open_array(each.output / "B" / "03" / "1" / "0", mode="r")[...] for each in (paths, again)]
    np.testing.assert_array_equal(*fused)


def test_a_unit_is_finished_until_its_input_or_its_pixels_change(tmp_path: Path) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((2, 3),), fields=(1,)))
    unit = next(open_plate(folder).fields())
    paths, settings = a_run(tmp_path)
    assert not finished(unit, None, paths)
    assert fuse_unit(Task(unit), settings).status == "done"
    record = read_json(paths.record(key_of(unit), 0))
    assert finished(unit, record, paths)
    assert not finished(replace(unit, imaging=replace(unit.imaging, channels=())), record, paths)
    chunks = paths.output / "B" / "03" / "1" / "0" / "c"
    chunks.rename(tmp_path / "away")
    assert not finished(unit, record, paths)
    (tmp_path / "away").rename(chunks)
    assert finished(unit, record, paths)
    write_plane(folder / unit.frame.planes[0][0].file, 7)
    assert not finished(unit, record, paths)


def test_a_broken_unit_fails_with_its_reason_after_two_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((2, 3),), fields=(1,)))
    unit = next(open_plate(folder).fields())
    (folder / unit.frame.planes[0][1].file).write_bytes(b"II*\0garbage")
    paths, settings = a_run(tmp_path)
    tries = []
    monkeypatch.setattr(
        fusing_units, "_opened", lambda *rest, _old=fusing_units._opened: tries.append(1) or _old(*rest)
    )
    outcome = fuse_unit(Task(unit), settings)
    assert outcome.status == "failed"
    assert unit.frame.planes[0][1].file in outcome.reason
    assert len(tries) == 2
    record = read_json(paths.record(key_of(unit), 0))
    assert record is not None
    assert (record["status"], record["reason"]) == ("failed", outcome.reason)
    assert not finished(unit, record, paths)
    assert measure_unit(Task(unit), settings).status == "failed"
    assert not paths.output.exists()


@pytest.mark.parametrize(("error", "tiles"), [(MemoryError(), [64, 32]), (OSError("gone"), [64, 64])])
def test_tiles_are_halved_when_memory_ran_out_and_for_nothing_else(
    error: Exception, tiles: list[int], sample: Plate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, settings = a_run(tmp_path)
    seen = []

    def once(arrays: object, job: object, *rest: object, _old: object = fusing_units.fuse_into) -> object:
        seen.append(job.plan.tile)
        if len(seen) == 1:
            raise error
        return _old(arrays, job, *rest)

    monkeypatch.setattr(fusing_units, "fuse_into", once)
    unit = next(sample.fields())
    assert fuse_unit(Task(unit), settings).status == "done"
    assert seen == tiles
    record = read_json(paths.record(key_of(unit), 0))
    assert record is not None
    assert record["settings"]["tile"] == tiles[-1]
    assert starts_in_run(paths, key_of(unit), 0, "session") == 0


def test_workers_that_die_halve_the_tiles_and_then_end_it(
    sample: Plate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, settings = a_run(tmp_path)
    unit = next(sample.fields())
    seen = []

    def die(_: object, job: object, *__: object) -> object:
        seen.append(job.plan.tile)
        raise SystemExit  # what a kill leaves behind: nothing

    monkeypatch.setattr(fusing_units, "fuse_into", die)
    for _ in range(3):
        with pytest.raises(SystemExit):
            fuse_unit(Task(unit), settings)
    assert seen == [64, 64, 32]  # the first one may have been lost by itself
    outcome = fuse_unit(Task(unit), settings)
    assert outcome.status == "failed"
    assert "workers died" in outcome.reason
    # A new run begins anew, with the tiles that it would have had.
    begin_session(paths, "next")
    with pytest.raises(SystemExit):
        fuse_unit(Task(unit), replace(settings, session="next"))
    assert seen == [64, 64, 32, 64]


def test_runs_that_are_killed_as_a_whole_change_nothing_until_the_third(
    sample: Plate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = next(sample.fields())
    seen = []

    def die(_: object, job: object, *__: object) -> object:
        seen.append(job.plan.tile)
        raise SystemExit

    monkeypatch.setattr(fusing_units, "fuse_into", die)
    for session in "abcde":
        _, settings = a_run(tmp_path, session)
        with pytest.raises(SystemExit):
            fuse_unit(Task(unit), settings)
    assert seen == [64, 64, 64, 32, 16]


def test_a_full_disk_is_nobodys_failure(sample: Plate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, settings = a_run(tmp_path)
    unit = next(sample.fields())

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fusing_units, "fuse_into", full)
    outcome = fuse_unit(Task(unit), settings)
    assert outcome.status == "full"
    assert "no room left" in outcome.reason
    assert read_json(paths.record(key_of(unit), 0)) is None
    assert starts_in_run(paths, key_of(unit), 0, "session") == 0
    assert list(paths.staging.iterdir()) == []


def test_a_task_stops_at_its_next_tile_when_its_session_is_over(
    sample: Plate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, settings = a_run(tmp_path)
    unit = next(sample.fields())
    tiles = []

    def ended(*rest: object, _old: object = fusing_units.fuse_into) -> object:
        for step in _old(*rest):
            tiles.append(step)
            end_session(paths)
            yield step

    monkeypatch.setattr(fusing_units, "fuse_into", ended)
    assert fuse_unit(Task(unit), settings).status == "stopped"
    assert len(tiles) == 1
    assert read_json(paths.record(key_of(unit), 0)) is None
    assert fuse_unit(Task(unit), settings).status == "stopped"
    assert list(paths.staging.iterdir()) == []


def test_a_changed_request_is_refused_and_named(tmp_path: Path) -> None:
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    assert run_record(paths, {"tile": 256}) is None
    write_json(paths.run_record, {"format": 1, "request": {"tile": 256, "z": None}})
    assert run_record(paths, {"tile": 256, "z": None}) is not None
    with pytest.raises(UserInputError, match="tile: 256 then, 512 now"):
        run_record(paths, {"tile": 512, "z": None})


def test_what_no_batch_began_is_refused(tmp_path: Path) -> None:
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    paths.maps.mkdir()
    (paths.maps / "somebody's").touch()
    with pytest.raises(UserInputError, match="no batch began it"):
        run_record(paths, {})
    paths.folder.mkdir()
    paths.run_record.write_text(json.dumps({"format": 2}), encoding="utf-8")
    with pytest.raises(StoredDataError, match="no record of format 1"):
        run_record(paths, {})
    with pytest.raises(UserInputError, match=r"ends in \.ome\.zarr"):
        BatchPaths(tmp_path / "out.tif")


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "=1+1", "é", "x" * 300, "<b>", "\0"])
def test_hostile_names_become_letters_and_digits(name: str) -> None:
    safe = safe_name(name)
    assert safe.isalnum()
    assert safe.isascii()
    assert len(safe) <= 32
    assert safe != safe_name(name + "x")
    assert safe_name("B02") == "B02"


def test_verify_finds_what_is_missing_in_a_plate(sample: Plate, tmp_path: Path) -> None:
    paths, settings = a_run(tmp_path)
    units = list(sample.fields())[:2]
    assert [fuse_unit(Task(unit), settings).status for unit in units] == ["done"] * 2
    publish(sample, paths, units)
    assert verify(paths.output) == []
    pixels_of = paths.output / "B" / "2" / "1" / "0" / "c" / "0"
    chunk = next(each for each in pixels_of.rglob("*") if each.is_file())
    content = chunk.read_bytes()
    chunk.unlink()
    assert "out.ome.zarr/B/2/1: 0/c/0" in verify(paths.output)[0]
    chunk.write_bytes(content[:-7])
    assert any("out.ome.zarr/B/2/1" in each for each in verify(paths.output))
    chunk.write_bytes(content)
    (paths.maps / "B" / "2" / "0").rename(tmp_path / "away")
    assert "out.maps.ome.zarr/B/2/0 is missing; it was asked for when this was fused" in verify(paths.output)
    (paths.output / "B" / "2" / "zarr.json").write_text("{}", encoding="utf-8")
    assert any("wells cannot be understood" in each for each in verify(paths.output))


def test_display_limits_show_every_time_point() -> None:
    def at(start: float, end: float) -> dict[str, object]:
        window = {"start": start, "end": end, "min": start - 1, "max": end + 1}
        provenance = {"input": [f"{start}.tif"], "statistics": [start]}
        return {"ome": {"omero": {"channels": [{"label": "DAPI", "window": window}]}}, "hybridfusion": provenance}

    for order in ((at(5, 8), at(2, 6), at(7, 9)), (at(2, 9), at(5, 6))):
        found = merged(order)
        assert found["ome"]["omero"]["channels"][0]["window"] == {"start": 2, "end": 9, "min": 1, "max": 10}
        assert found["hybridfusion"]["statistics"] == [each["hybridfusion"]["statistics"][0] for each in order]
    assert order[0] == at(2, 9)
