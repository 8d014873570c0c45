"""`hybridfusion batch --dry-run`: everything that would be fused and fail is shown, and nothing is written."""

import json
import os
import re
from pathlib import Path

import plate_makers as make
import pytest

from hybridfusion_core.cli import main
from hybridfusion_core.cli.parser import build_parser
from hybridfusion_core.fusion.api import fuse
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.layouts.table import LAYOUTS
from hybridfusion_core.plates.open import open_plate

QUICK = ("--method", "tenengrad", "--threads", "1")


def run(*words: object) -> int:
    return main(["batch", *map(str, words)])


def summary(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert run(*words, "--dry-run", "--json", *QUICK) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run(*words, *QUICK) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "expected" in captured.err
    return captured.err


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_dry_run_counts_what_is_there_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_imagexpress(tmp_path / "screen", make.places(times=(0, 1)))
    before = everything(tmp_path)
    found = summary(capsys, folder, tmp_path / "out.ome.zarr")
    assert everything(tmp_path) == before
    assert {key: found[key] for key in ("wells", "fields_per_well", "times_per_field", "units", "slices")} == {
        "wells": 2,
        "fields_per_well": [2, 2],
        "times_per_field": [2, 2],
        "units": 8,
        "slices": [3, 3],
    }
    assert (found["plane"], found["dtype"], found["channels"]) == ([24, 32], "uint16", ["DAPI", "FITC"])
    assert (found["layout"], found["experimental"]) == ("imagexpress", False)
    assert found["input_bytes"] == 8 * 2 * 3 * 24 * 32 * 2
    # Two channels fused and one decision of uint16, height and confidence of float32; a third for smaller copies.
    assert found["output_bytes_at_most"] == int(24 * 32 * (2 * 2 + 2 + 2 * 4) * 4 / 3) * 8
    assert found["seconds_expected"] >= 0
    assert found["disk_free_bytes"] > 0
    assert found["failing"] == []


def test_a_selection_is_what_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_plain(tmp_path / "p", make.places(wells=((1, 1), (1, 2), (2, 3)), times=(0, 1, 2)))
    words = (folder, tmp_path / "out.ome.zarr", "--pattern", make.PLAIN)
    assert summary(capsys, *words)["units"] == 18
    assert summary(capsys, *words, "--wells", "A01:A02", "--fields", "2", "--times", "0:2")["units"] == 4
    assert summary(capsys, *words, "--pilot", "2")["wells"] == 2
    found = summary(capsys, *words, "--channels", "2", "--z-step", "2.5", "--pixel-size", "0.4")
    assert (found["z_step_um"], found["pixel_size_um"]) == (2.5, 0.4)
    assert found["input_bytes"] == 18 * 3 * 24 * 32 * 2
    failures = tmp_path / "failures.csv"
    failures.write_text("well,field,time,reason\nA02,1,2,why\n")
    assert summary(capsys, *words, "--only", failures)["units"] == 1


def test_failures_are_known_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_harmony(tmp_path / "screen", make.places())
    (folder / make.harmony_name(2, 4, 2, 0, 2, 3)).unlink()
    found = summary(capsys, folder, tmp_path / "out.ome.zarr")
    assert [(each["well"], each["field"], each["time"]) for each in found["failing"]] == [("B04", "2", 0)]
    assert "1 of 3 planes of channel 'Brightfield' are missing" in found["failing"][0]["reason"]
    assert found["input_bytes"] == 3 * 2 * 3 * 24 * 32 * 2
    assert summary(capsys, folder, tmp_path / "out.ome.zarr", "--channels", "DAPI")["failing"] == []
    assert run(folder, tmp_path / "out.ome.zarr", "--dry-run", *QUICK) == 0
    captured = capsys.readouterr()
    assert re.search(r"to fuse: 4 focal stacks, 1 of them will fail", captured.out)
    assert re.search(r"^ B +\. +\. +2 +2! +\. ", captured.out, re.MULTILINE)
    assert "B04 field 2 time 0: 1 of 3 planes" in captured.out
    assert "warning: Opera Phenix and Operetta (Harmony) is experimental" in captured.err


def test_the_map_shows_every_well_of_a_plate_where_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wells = ((1, 1), (8, 12))
    folder = make.write_plain(
        tmp_path / "p", make.places(wells=wells, fields=range(1, 11), channels=(1,), slices=(1, 2))
    )
    assert run(folder, tmp_path / "o.ome.zarr", "--dry-run", "--pattern", make.PLAIN, "--fields", "1-10", *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    grid = lines[lines.index("") + 1 :]
    assert grid[0].split() == [str(column) for column in range(1, 13)]
    assert [line.split()[0] for line in grid[1:9]] == list("ABCDEFGH")
    assert grid[1].split()[1:] == ["10", *["."] * 11]
    assert grid[8].split()[1:] == [*["."] * 11, "10"]
    # Each cell ends below the last digit of its column.
    assert grid[8].rindex("0") == grid[0].rindex("2")


def test_a_plate_of_failures_alone_is_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_plain(tmp_path / "p", make.places(slices=(1, 3, 4)))
    words = (folder, tmp_path / "out.ome.zarr", "--pattern", make.PLAIN)
    found = summary(capsys, *words)
    assert (len(found["failing"]), found["seconds_expected"], found["output_bytes_at_most"]) == (4, None, None)
    assert run(*words, "--dry-run", *QUICK) == 0
    assert "an unknown time" in capsys.readouterr().out


def test_fields_of_one_slice_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_plain(tmp_path / "p", make.places(slices=(1,)))
    assert summary(capsys, folder, tmp_path / "out.ome.zarr", "--pattern", make.PLAIN)["single_slice"] == 4


def test_no_field_is_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "is empty; expected a plate or images" in refusal(
        capsys, tmp_path / "empty", tmp_path / "o.ome.zarr", "--dry-run"
    )
    folder = make.write_plain(tmp_path / "p", make.places())
    words = (folder, tmp_path / "o.ome.zarr", "--dry-run", "--pattern")
    assert "fits none of 24 image files" in refusal(capsys, *words, "{well}.tif")
    assert "has images of none" in refusal(capsys, *words, make.PLAIN, "--wells", "H12")
    assert "no channel 'GFP'" in refusal(capsys, *words, make.PLAIN, "--channels", "GFP")
    message = refusal(capsys, folder, folder / "o.ome.zarr", "--dry-run", "--pattern", make.PLAIN)
    assert "is the input, or inside it" in message


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / os.fsdecode(b"screen\xff\x1b[31m")
    make.write_plain(folder, make.places(slices=(1, 2, 4)))
    assert (
        summary(capsys, folder, tmp_path / "o.ome.zarr", "--pattern", make.PLAIN)["plate"] == "screen\\udcff\\x1b[31m"
    )
    assert run(folder, tmp_path / "o.ome.zarr", "--dry-run", "--pattern", make.PLAIN, *QUICK) == 0
    captured = capsys.readouterr()
    (captured.out + captured.err).encode()
    assert "\x1b" not in captured.out + captured.err


def test_help_names_every_layout_and_calls_experimental_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["batch", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    sound, _, untried = text.partition("written from documentation")
    for layout in LAYOUTS:
        assert layout.title in (untried if layout.experimental else sound)


@pytest.mark.parametrize("name", ["harmony", "yokogawa", "imagexpress", "pattern", "ome-zarr", "ome-tiff"])
def test_a_field_of_every_layout_is_fused_as_it_stands(tmp_path: Path, name: str) -> None:
    writers = {
        "harmony": make.write_harmony,
        "yokogawa": make.write_yokogawa,
        "imagexpress": make.write_imagexpress,
        "pattern": make.write_plain,
        "ome-zarr": lambda folder, _: make.write_zarr_plate(folder),
        "ome-tiff": lambda folder, _: make.write_ome_tiffs(folder, ["B02_f1.ome.tif"]),
    }
    folder = writers[name](tmp_path / "p", make.places())
    plate = open_plate(folder, pattern=make.PLAIN if name == "pattern" else None)
    assert plate.layout == name
    with open_field(next(plate.fields())) as stack:
        expected = [stack.read(0, channel, range(3), slice(0, 24), slice(0, 32)).max(axis=0) for channel in (0, 1)]
        fused = fuse(stack, method="max").fused
    assert fused.shape == (1, 2, 1, 24, 32)
    assert (fused[0, :, 0] == expected).all()
