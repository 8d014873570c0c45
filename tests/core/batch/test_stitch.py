"""Whole wells: fields lie where they belong, and nothing shows where one ends and the next begins."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from distributed import Client, LocalCluster
from plate_makers import harmony_index, harmony_name, write_plain
from plate_makers import places as plane_places
from scipy.ndimage import gaussian_filter, shift

from hybridfusion_core.batch.stitch.blend import blended
from hybridfusion_core.batch.stitch.placement import by_overlaps, by_stage
from hybridfusion_core.cli import batch_run, main

QUIET = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
SIZE, STEP = 96, 72  # px: neighbours share a quarter


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, **QUIET) as cluster,
        Client(cluster) as found,
    ):
        yield found


@pytest.fixture(autouse=True)
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_run, "connected", lambda *_: nullcontext(client))


def scene(side: int = 2 * STEP + SIZE + 20) -> np.ndarray:
    random = np.random.default_rng(7)
    cells = gaussian_filter(random.normal(size=(side, side)), 2)
    return 2000 + 6000 * (cells - cells.min()) / np.ptp(cells)


def cut(picture: np.ndarray, jitter: float, noise: float = 20) -> tuple[np.ndarray, list[np.ndarray]]:
    """Nine fields of a picture; returns where each really begins, (y, x) in pixels, and what it shows."""
    random = np.random.default_rng(3)
    grid = np.array([(STEP * row, STEP * column) for row in range(3) for column in range(3)]) + 8.0
    corners = grid + random.uniform(-jitter, jitter, grid.shape)
    fields = []
    for y, x in corners:
        moved = shift(picture, (-(y % 1), -(x % 1)), order=3, mode="nearest")
        fields.append(moved[int(y) : int(y) + SIZE, int(x) : int(x) + SIZE] + random.normal(0, noise, (SIZE, SIZE)))
    return corners, fields


@pytest.mark.parametrize("error", [0.5, 6.0])
def test_overlaps_tell_where_fields_lie(error: float) -> None:
    corners, fields = cut(scene(), jitter=error)
    stage = np.round((corners - 8) / STEP) * STEP  # what was asked of the stage
    found = by_overlaps(stage, [(SIZE, SIZE)] * 9, lambda number, region: fields[number][region])
    assert found.overlaps == 20
    assert found.registered >= 12  # all pairs that share a side; those at corners share little
    off = found.corners - (corners - corners.min(axis=0))
    assert np.abs(off - off.mean(axis=0)).max() <= 0.75  # whole pixels, and a tenth of one for the comparison


def test_overlaps_that_show_nothing_leave_fields_to_the_stage() -> None:
    random = np.random.default_rng(0)
    stage = np.array([(0.0, 0.0), (0.0, 72.0), (5.0, 300.0)])
    fields = random.normal(0, 1, (3, SIZE, SIZE))
    found = by_overlaps(stage, [(SIZE, SIZE)] * 3, lambda number, region: fields[number][region])
    assert (found.overlaps, found.registered) == (1, 0)
    np.testing.assert_array_equal(found.corners, by_stage(stage, [(SIZE, SIZE)] * 3).corners)


def test_a_ramp_across_two_fields_has_no_step_and_single_pixels_stay() -> None:
    """Two fields of one slope, whose heights differ by a constant: it fades in over the overlap."""
    slope = np.arange(SIZE)[None] * np.ones((SIZE, 1))
    heights = [slope.copy(), slope + STEP + 6.0]
    heights[0][40, 80] = np.nan
    where = [(0, (0, 0), (SIZE, SIZE)), (1, (0, STEP), (SIZE, SIZE))]
    whole = (SIZE, STEP + SIZE)
    read = lambda number, y, x: heights[number][y, x]  # noqa: E731
    mosaic = blended(0, 0, whole, np.dtype(float), where, read, "mean", np.nan)
    assert np.diff(mosaic[0]).max() < 1 + 6.0 / (SIZE - STEP) + 0.1
    np.testing.assert_array_equal(mosaic[:, :STEP], heights[0][:, :STEP])
    assert mosaic[40, 80] == heights[1][40, 80 - STEP]  # one of them knows it
    parts = [blended(0, left, (SIZE, 56), np.dtype(float), where, read, "mean", np.nan) for left in (0, 56, 112)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), mosaic)  # whatever the blocks are
    decision = blended(
        0, 0, whole, np.dtype(np.uint16), where, lambda n, y, x: np.full((SIZE, SIZE), n + 1)[y, x], "nearest"
    )
    assert (np.diff(decision[0].astype(int)) != 0).nonzero()[0].tolist() == [STEP + (SIZE - STEP) // 2 - 1]


def write_well(folder: Path, fields: list[np.ndarray], stage: np.ndarray) -> Path:
    """A measurement of Harmony of one well: in the first slice the left half of each field is sharp."""
    images, entries = folder / "Images", []
    images.mkdir(parents=True)
    for number, (pixels, (y, x)) in enumerate(zip(fields, stage, strict=True), 1):
        for z in (1, 2, 3):
            place = (2, 3, number, 0, 1, z)
            blurred = pixels if z == 2 else gaussian_filter(pixels, 3)
            tifffile.imwrite(images / harmony_name(*place), blurred.round().astype(np.uint16), metadata=None)
            entries.append(
                f'<Image Version="1"><id>0203K1F{number}P{z}R1</id><State>Ok</State><URL>{harmony_name(*place)}</URL>'
                f"<Row>2</Row><Col>3</Col><FieldID>{number}</FieldID><PlaneID>{z}</PlaneID><TimepointID>0</TimepointID>"
                f'<ChannelID>1</ChannelID><PositionX Unit="m">{x * 2.96e-7}</PositionX><PositionY Unit="m">'
                f'{-y * 2.96e-7}</PositionY><PositionZ Unit="m">{(z - 1) * 2e-6}</PositionZ></Image>'
            )
    text = harmony_index(entries).replace("<ImageSizeX>32", f"<ImageSizeX>{SIZE}")
    (images / "Index.xml").write_text(text.replace("<ImageSizeY>24", f"<ImageSizeY>{SIZE}"), encoding="utf-8")
    return images


def run(*words: object) -> int:
    return main(["batch", *map(str, words), "--method", "tenengrad", "--device", "cpu", "--tile", "64"])


def test_a_well_is_one_image_beside_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = scene()
    corners, fields = cut(picture, jitter=0.5)
    stage = np.round((corners - 8) / STEP) * STEP
    folder, output = write_well(tmp_path / "in", fields, stage), tmp_path / "out.ome.zarr"
    assert run(folder, output, "--fields", "1-8") == 0
    assert run(folder, output, "--fields", "1-8", "--stitch", "register", "--json") == 0
    said = capsys.readouterr().out
    assert json.loads(said.splitlines()[-1])["kept"] == 8
    assert "lack fields" in said
    assert run(folder, output, "--stitch", "register") == 0  # the last field came, and the image is made again
    well = zarr.open_group(output / "B" / "03", mode="r")
    whole = well["stitched/0"][0, 0, 0]
    top, left = corners.min(axis=0).round().astype(int)
    truth = picture[top : top + whole.shape[0], left : left + whole.shape[1]]
    inside = (slice(8, -8), slice(8, -8))
    error = np.abs(whole.astype(float) - truth)[inside]
    assert np.median(error) < 60  # of 6000: noise, half a pixel
    assert error.max() < 900
    # No seam: where fields meet, neighbours differ no more than elsewhere.
    steps = np.abs(np.diff(whole.astype(float) - truth, axis=1)).mean(axis=0)
    assert steps.max() < 3 * np.median(steps)
    height = zarr.open_array(tmp_path / "out.maps.ome.zarr" / "B" / "03" / "stitched" / "0", mode="r")[0, 0, 0]
    assert height.shape == whole.shape
    assert np.nanmedian(np.abs(height - 2.0)) < 0.5
    decision = well["stitched/labels/decision/0"][0, 0, 0]
    assert (decision == 2).mean() > 0.9
    about = well["stitched"].attrs["hybridfusion"]["stitch"]
    assert (about["how"], about["lacking"], len(about["fields"])) == ("register", [], 9)
    assert about["registered"] >= 12
    first, mosaic = (
        well[name].attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][1]["translation"]
        for name in ("1", "stitched")
    )
    np.testing.assert_allclose(first[-2:], mosaic[-2:], atol=0.296 * 2)
    assert [each["path"] for each in well.attrs["ome"]["well"]["images"]] == [str(n) for n in range(1, 10)]
    before = (output / "B" / "03" / "stitched" / "zarr.json").stat().st_mtime_ns
    assert run(folder, output, "--stitch", "register") == 0
    assert (output / "B" / "03" / "stitched" / "zarr.json").stat().st_mtime_ns == before
    assert main(["verify", str(output)]) == 0
    mosaics = [store / "B" / "03" / "stitched" for store in (output, tmp_path / "out.maps.ome.zarr")]
    chunk = next(each for each in sorted((mosaics[0] / "0").rglob("*")) if each.is_file() and each.suffix != ".json")
    chunk.unlink()
    capsys.readouterr()
    assert main(["verify", str(output)]) == 2
    assert "well B03: " in capsys.readouterr().err
    assert run(folder, output, "--stitch", "register", "--recheck") == 0
    assert "whole well was damaged and is made again: well B03" in capsys.readouterr().err
    assert main(["verify", str(output)]) == 0
    shutil.rmtree(mosaics[1])
    assert run(folder, output, "--recheck") == 0  # nothing damaged stays where no one asks for it again
    assert not any(each.exists() for each in mosaics)


def test_what_has_no_place_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plain(tmp_path / "in", plane_places(wells=((1, 1),)))
    pattern = ("--pattern", "{row}{column}_f{field}_t{time}_z{z}_c{channel}.tif")
    assert run(tmp_path / "in", tmp_path / "out.zarr", *pattern, "--stitch", "stage") == 2
    assert "no position on the stage" in capsys.readouterr().err
    assert run(tmp_path / "in", tmp_path / "out", *pattern, "--stitch", "stage", "--format", "tiff") == 2
    assert not list(tmp_path.glob("out*"))
