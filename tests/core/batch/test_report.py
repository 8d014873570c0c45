"""What is left to read when a batch has ended: tables, a page, and what they say of each field."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridfusion_core.batch.figures.flags import figures
from hybridfusion_core.batch.plate_statistics import common_statistics, sampled
from hybridfusion_core.batch.records.failure_list import read_failures
from hybridfusion_core.batch.records.paths import BatchPaths, key_of
from hybridfusion_core.batch.records.store import write_json
from hybridfusion_core.batch.report.field_table import COLUMNS, Row, field_rows, report_csv
from hybridfusion_core.batch.report.page import render
from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.result import Result
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.model.noise import FieldStatistics, NoiseModel
from hybridfusion_core.plates.plate import Field, Frame, Imaging, Plate, Well
from hybridfusion_core.stack import Stack

HOSTILE = "=<script>alert(1)</script>'\""
RECORD = {
    "format": 1,
    "request": {"method": "network", "stats": "plate", "select": "soft", "algorithm_version": 4, "z": HOSTILE},
    "settings": {"models": {"fluorescence": "abc123"}, "precision": "float32", "device": "cpu", "tile": 256},
    "software": "napari-hybridfusion 1",
    "runtime": "torch 2",
}


def a_plate(rows: int, columns: int, fields: Sequence[str] = ("1",)) -> Plate:
    wells = tuple(
        Well(
            chr(65 + y % 26) * (1 + y // 26),
            str(x + 1),
            y,
            x,
            tuple(Field(name, (Frame("0", (3,)),)) for name in fields),
        )
        for y in range(rows)
        for x in range(columns)
    )
    return Plate("/in", "pattern", HOSTILE, wells, Imaging(()), rows, columns)


def written(plate: Plate, tmp_path: Path, failed: int = 0) -> tuple[BatchPaths, Result]:
    """Records of a batch that has ended, the first units failed."""
    paths = BatchPaths(tmp_path / "out.ome.zarr")
    result = Result(paths)
    missing = result.missing = {key_of(unit): set() for unit in plate.fields()}
    for number, unit in enumerate(plate.fields()):
        record = paths.record(key_of(unit), unit.t)
        if number < failed:
            write_json(record, {"format": 1, "status": "failed", "reason": HOSTILE})
            missing[key_of(unit)].add(unit.t)
            continue
        flags = ["empty"] if number % 7 == 0 else []
        found = {"median_confidence": 0.5 + number % 40 / 100, "height": [1.0, 2.0 + number % 9], "flags": flags}
        figures = found | {"height_unit": "um", "sharpest_slice": 2, "slices": 3, "in_focus": 0.9}
        done = {"format": 1, "status": "done", "seconds": 1.5, "settings": {"tile": 64}, "figures": figures}
        write_json(record, done)
        write_whole(paths.thumbnail(key_of(unit), 0), b"\xff\xd8picture")
    write_json(paths.run_record, RECORD)
    return paths, result


def test_the_table_has_a_row_for_every_unit(tmp_path: Path) -> None:
    plate = a_plate(2, 3)
    paths, result = written(plate, tmp_path, failed=2)
    write_reports(plate, result)
    table = list(csv.DictReader(io.StringIO((paths.folder / "report.csv").read_text(encoding="utf-8"))))
    assert tuple(table[0]) == COLUMNS
    assert [row["status"] for row in table] == ["failed"] * 2 + ["done"] * 4
    assert table[0]["reason"] == f"'{HOSTILE}"  # no spreadsheet runs it
    assert (table[2]["well"], table[2]["median_confidence"], table[2]["height_high"]) == ("A3", "0.52", "4")
    assert read_failures(paths.failures) == {("A1", "1", 0), ("A2", "1", 0)}


def test_what_was_not_asked_for_is_none_of_the_table(tmp_path: Path) -> None:
    plate = a_plate(1, 2)
    paths, result = written(plate, tmp_path)
    kept = next(plate.fields())
    assert [row.unit for row in field_rows(plate, paths, {key_of(kept): {0}})] == [kept]
    assert [row.status for row in field_rows(plate, paths, {key_of(kept): {0}})] == ["missing"]
    paths.record(key_of(kept), 0).write_bytes(b"{}")
    assert [row.status for row in field_rows(plate, paths, result.missing)] == ["done", "done"]


def test_hostile_names_stay_text_on_the_page(tmp_path: Path) -> None:
    plate = a_plate(2, 2, fields=(HOSTILE,))
    paths, result = written(plate, tmp_path, failed=1)
    write_reports(plate, result)
    page = (paths.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert html.escape(HOSTILE, quote=False).split("'")[0] in page
    assert re.search("Content-Security-Policy", page)
    assert not re.search(r"(?:src|href)=\"?(?:https?:|//|javascript:)", page)


def test_a_plate_of_1536_wells_fits_on_a_page(tmp_path: Path) -> None:
    plate = a_plate(32, 48)
    paths, result = written(plate, tmp_path, failed=5)
    rows = list(field_rows(plate, paths, result.missing))
    page = render(plate, paths, rows, RECORD)
    assert page.count("<rect x=") == 1536 + 3 * 1531  # status of all, figures of those that are fused
    assert page.count("data:image/jpeg") == 1531
    assert "1531 focal stacks" in page
    assert "abc123" in page


def test_a_damaged_record_spoils_no_page(tmp_path: Path) -> None:
    plate = a_plate(1, 1)
    paths, _ = written(plate, tmp_path)
    page = render(
        plate, paths, [Row(next(plate.fields()), "done")], {"request": {"stats": "?"}, "settings": {"tile": 1}}
    )
    assert "Methods" in page
    assert report_csv([]).count("\n") == 1


SLICES, SIDE = 4, 64


def flags(decision: int, confidence: float = 0.9, fused: int = 1000, share: float = 1.0) -> list[str]:
    """Flags of a field whose pixels all are the same, but for a checkerboard that is somewhere."""
    stack = Stack.from_array(np.zeros((SLICES, SIDE, SIDE), np.uint16), z_step_um=1)
    job = resolve(make_request(method="tenengrad", device="cpu"), stack)
    spec = describe(job, stack, [])
    board = np.indices((SIDE, SIDE)).sum(axis=0) % 8 < 4
    seen = np.random.default_rng(0).random((SIDE, SIDE)) < share
    copies = {
        "fused": np.where(board, fused, fused // 2).astype(np.uint16)[np.newaxis],
        "decision": np.where(seen, decision, 0).astype(np.uint16)[np.newaxis],
        "maps": np.stack([np.full((SIDE, SIDE), 1.5), np.full((SIDE, SIDE), confidence)]).astype(np.float32),
    }
    return list(figures(job, spec, copies)["flags"])


def test_flags_say_what_to_look_at() -> None:
    assert flags(2) == []
    assert flags(1) == flags(SLICES) == ["out of range"]
    assert flags(2, confidence=0.4) == ["low confidence"]
    assert flags(2, fused=4095) == flags(2, fused=65535) == ["saturated"]
    assert flags(2, fused=4094) == []
    assert flags(2, share=0.001) == ["empty"]
    assert flags(0) == ["empty"]


def test_figures_are_those_of_the_maps() -> None:
    stack = Stack.from_array(np.zeros((SLICES, SIDE, SIDE), np.uint16))
    job = resolve(make_request(method="max", device="cpu"), stack)
    found = figures(job, describe(job, stack, []), {"fused": np.zeros((1, 8, 8), np.uint16)})
    assert found["median_confidence"] is found["height"] is found["sharpest_slice"] is found["in_focus"] is None


def statistics(low: float = 100.0, scale: float = 5.0, channels: int = 1) -> tuple[FieldStatistics, ...]:
    return (FieldStatistics((NoiseModel(low, 4.0, 0.5),) * channels, centre=low / 10, scale=scale),)


def test_the_statistics_of_equal_fields_are_their_own() -> None:
    assert common_statistics([statistics()] * 3) == statistics()
    assert common_statistics([]) == ()


def test_neither_order_nor_a_strange_field_moves_the_statistics() -> None:
    fields = [statistics(low=100.0 + index, scale=3.0 + index / 10) for index in range(9)]
    usual = common_statistics(fields)
    assert common_statistics(fields[::-1]) == usual
    burnt = common_statistics([*fields, statistics(low=60000.0, scale=900.0)])
    assert burnt[0].scale == pytest.approx(usual[0].scale, rel=0.05)
    assert burnt[0].models[0].low == pytest.approx(usual[0].models[0].low, rel=0.05)


def test_empty_fields_say_nothing_about_contrast() -> None:
    crowded = statistics(scale=12.0)
    assert common_statistics([crowded, *[statistics(scale=1.0)] * 5])[0].scale == 12.0
    assert common_statistics([statistics(scale=1.0)] * 2)[0].scale == 1.0


def test_fields_with_other_channels_do_not_take_part() -> None:
    found = common_statistics([statistics(), statistics(), statistics(low=9.0, channels=2)])
    assert found == statistics()


@given(st.integers(1, 500), st.integers(2, 100))
def test_a_sample_is_spread_over_all(count: int, most: int) -> None:
    chosen = sampled(range(count), most)
    assert len(chosen) == min(count, most) == len(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert max(np.diff(chosen), default=1) <= -(-count // min(count, max(most - 1, 1))) + 1


def test_units_keep_their_names_on_the_page(tmp_path: Path) -> None:
    plate = replace(a_plate(1, 1), name="screen 7")
    paths, result = written(plate, tmp_path)
    page = render(plate, paths, list(field_rows(plate, paths, result.missing)), RECORD)
    assert 'href="../out.ome.zarr/A/1/1"' in page
    assert "<title>screen 7</title>" in page
