"""An output that is there already, or shared: shards, --overwrite, --recheck, --finish, and what `verify` says."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import zarr
from distributed import Client, LocalCluster
from plate_makers import edit_json, write_harmony, write_plain, write_zarr_plate
from plate_makers import places as plane_places

from hybridfusion_core.batch.earlier_output import EarlierOutput
from hybridfusion_core.batch.records import claim
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.cli import batch_run, main
from hybridfusion_core.io.disk.lock import Lock

PATTERN = ("--pattern", "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    quiet = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **quiet) as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(autouse=True)
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in this process: starting others takes seconds."""
    monkeypatch.setattr(batch_run, "connected", lambda *_: nullcontext(client))


def run(*words: object) -> int:
    return main(["batch", *map(str, words), "--method", "tenengrad", "--device", "cpu", "--tile", "16"])


def contents(*roots: Path) -> list[dict[str, bytes]]:
    return [
        {str(each.relative_to(root)): each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file()}
        for root in roots
    ]


def last(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_shards_give_the_plate_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wells = ((1, 1), (1, 2), (2, 1))
    folder = write_harmony(tmp_path / "in", plane_places(wells=wells))
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    assert run(folder, whole) == 0
    assert run(folder, parts, "--shard", "2/2") == 0
    assert run(folder, parts, "--finish") == 3  # the other shard has not run
    assert main(["verify", str(parts), "--json"]) == 0  # all that was asked for is there
    assert run(folder, parts, "--shard", "1/2", "--json") == 0
    assert last(capsys)["total"] == 4
    assert run(folder, parts, "--shard", "9/9") == 0  # no well is left for it
    assert run(folder, parts, "--finish") == 0
    assert contents(whole, tmp_path / "whole.maps.zarr") == contents(parts, tmp_path / "parts.maps.zarr")
    assert (tmp_path / "parts.hybridfusion" / "report.csv").read_text().count("done") == 6
    assert run(folder, parts, "--shard", "3/2") == 2
    assert "expected K/N" in capsys.readouterr().err


def test_shards_exclude_runs_of_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_PATIENCE", 0.0)
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1),), fields=(1,)))
    output = tmp_path / "out.zarr"
    paths = BatchPaths(output)
    paths.folder.mkdir()
    for held, words in (("run-1of2.lock", ()), ("run.lock", ("--shard", "1/2"))):
        lock = Lock(paths.folder / held, output)
        assert run(folder, output, *words) == 2
        assert "is being written by another process" in capsys.readouterr().err
        lock.release()
    assert run(folder, output) == 0


def test_overwrite_begins_anew_and_touches_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1),)))
    output = tmp_path / "out.ome.zarr"
    assert run(folder, output) == 0
    assert run(folder, output, "--stats", "field") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(folder, output, "--stats", "field", "--overwrite", "--json") == 0
    assert last(capsys)["fused"] == 2
    # A run that fuses nothing has removed nothing: all of its fields fail, or it is killed before the first.
    kept = contents(output, tmp_path / "out.maps.ome.zarr", tmp_path / "out.hybridfusion")
    assert run(folder, output, "--overwrite", "--z", "0:1") == 2
    assert "None of 2 fields" in capsys.readouterr().err
    assert contents(output, tmp_path / "out.maps.ome.zarr", tmp_path / "out.hybridfusion") == kept
    EarlierOutput(BatchPaths(output)).set_aside()
    assert not output.exists()
    assert run(folder, output, "--stats", "field", "--json") == 0
    assert last(capsys)["kept"] == 2
    assert not list(tmp_path.glob(".out*"))
    (tmp_path / "mine.ome.zarr").mkdir()
    (tmp_path / "mine.ome.zarr" / "precious").touch()
    assert run(folder, tmp_path / "mine.ome.zarr", "--overwrite") == 2
    assert (tmp_path / "mine.ome.zarr" / "precious").exists()
    assert run(folder, output, "--overwrite", "--shard", "1/2") == 2


@pytest.mark.parametrize("words", [(), ("--format", "tiff")])
def test_what_is_damaged_is_found_and_fused_again(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1), (1, 2)), fields=(1,)))
    output, again = tmp_path / ("out" if words else "out.ome.zarr"), tmp_path / "again.csv"
    output.mkdir()  # as pipelines do
    assert run(folder, output, *words) == 0
    before = contents(output)
    files = [each for each in sorted(output.rglob("*")) if each.is_file()]
    victim = next(each for each in files if each.suffix == ".tif" or "c" in each.relative_to(output).parts)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 255
    victim.write_bytes(content if not words else content[: len(content) // 3])
    assert main(["verify", str(output), "--failures", str(again)]) == 2
    assert "1 damaged" in capsys.readouterr().err
    assert run(folder, output, *words, "--only", again, "--recheck", "--json") == 0
    about = last(capsys)
    assert (about["fused"], about["total"]) == (1, 1)
    assert any("was damaged and is fused again" in each for each in about["warnings"])
    assert contents(output) == before


def test_verify_says_how_much_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1), (1, 2)), fields=(1,)))
    output = tmp_path / "out.ome.zarr"
    broken = sorted(folder.glob("r01c02*"))[0]
    broken.write_bytes(b"")
    assert run(folder, output) == 3
    assert main(["verify", str(output)]) == 3
    assert "incomplete; 1 of 2 focal stacks that were asked for are there, 1 failed" in capsys.readouterr().out
    assert main(["verify", str(output), "--json", "--failures", str(tmp_path / "list.csv")]) == 3
    assert last(capsys)["failed"] == 1
    assert "A2,1,0," in (tmp_path / "list.csv").read_text().replace("A02", "A2")


def test_choices_are_compared_by_what_they_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1),), fields=(1,)))
    output = tmp_path / "out.ome.zarr"
    assert run(folder, output) == 0
    assert run(folder, output, "--times", "0:5", "--channels", "DAPI,1") == 0
    assert run(folder, output, "--channels", "GFP") == 2
    assert "no channel 'GFP'" in capsys.readouterr().err


def test_a_renamed_input_folder_is_the_same_plate_and_another_plate_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain(tmp_path / "first", plane_places(wells=((1, 1),)))
    output = tmp_path / "out.ome.zarr"
    assert run(tmp_path / "first", output, *PATTERN) == 0
    before = contents(output)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert run(tmp_path / "moved", output, *PATTERN, "--json") == 0
    assert last(capsys)["kept"] == 2
    assert contents(output) == before
    shutil.copytree(tmp_path / "moved", tmp_path / "other", copy_function=shutil.copyfile)
    for each in (tmp_path / "other").rglob("*"):
        os.utime(each, ns=(1, 1))
    assert run(tmp_path / "other", output, *PATTERN) == 2
    assert "plate:" in capsys.readouterr().err


def test_errors_are_events_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "out.zarr", "--json") == 2
    said = capsys.readouterr()
    event = json.loads(said.out)
    assert (event["event"], event["status"]) == ("error", 2)
    assert event["message"] in said.err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_harmony(tmp_path / "in", plane_places(wells=((1, 1),), fields=(1,)))
    (tmp_path / "closed").mkdir(mode=0o555)
    assert run(folder, tmp_path / "closed" / "out.zarr", "--dry-run") == 0
    assert "may not be written" in capsys.readouterr().out
    assert run(folder, tmp_path / "closed" / "out.zarr") == 2
    assert "may not be written" in capsys.readouterr().err


def test_what_others_wrote_of_channels_and_acquisitions_is_kept(tmp_path: Path) -> None:
    folder = write_zarr_plate(tmp_path / "in.ome.zarr", wells=("B/03",))
    channels = [{"label": "DNA", "wavelength_id": "A01_C01", "coefficient": 1.5}, {"label": "ER"}]

    def describe(stored: dict) -> None:
        stored["attributes"]["ome"]["omero"] = {"channels": channels}

    def date(stored: dict) -> None:
        stored["attributes"]["ome"]["plate"]["acquisitions"][0]["starttime"] = 1_700_000_000

    edit_json(folder / "zarr.json", date)
    for name in ("0", "1"):
        edit_json(folder / "B" / "03" / name / "zarr.json", describe)
    assert run(folder, tmp_path / "out.zarr") == 0
    plate = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert plate.attrs["ome"]["plate"]["acquisitions"][0]["starttime"] == 1_700_000_000
    omero = plate["B/03/1"].attrs["ome"]["omero"]
    dna, other = omero["channels"]
    assert (dna["label"], dna["wavelength_id"], dna["coefficient"]) == ("DNA", "A01_C01", 1.5)
    assert "wavelength_id" not in other
    assert omero["rdefs"]["defaultT"] == omero["rdefs"]["defaultZ"] == 0
