"""`verify` finds what damages a result, and names it; a whole result has no faults."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.io.verify import verify
from hybridfusion_core.stack import Axis, Channel

RGB = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"))
DAPI = (Channel("DAPI"),)
KINDS = {
    "zarr 0.5": ("r.ome.zarr", {}),
    "zarr 0.4": ("r.ome.zarr", {"ngff": "0.4"}),
    "ome-tiff": ("r.ome.tif", {}),
    "imagej": ("r.tif", {}),
    "png": ("r.png", {}),
}


def write(folder: Path, kind: str, shape=(1, 1, 600, 70), channels=DAPI, *, rgb=False) -> Path:
    name, options = KINDS[kind]
    spec = ResultSpec(
        name="r",
        shape=shape,
        dtype=np.dtype(np.uint8),
        channels=channels,
        rgb=rgb,
        y=Axis(0.5, "micrometer"),
        x=Axis(0.5, "micrometer"),
        slices=4,
        decision_channels=("all",),
        maps=(MapChannel("confidence", (0.0, 1.0)),),
        provenance={"settings": {"products": ["fused", "decision", "confidence"]}},
    )
    random = np.random.default_rng(0)
    with create_output(folder / name, spec, block=256, **options) as output:
        for product, array in output.arrays.items():
            pixels = random.integers(0, 5, array.shape).astype(array.dtype)
            if product == "maps":
                pixels[..., :100, :] = np.nan
            array[...] = pixels
        output.commit()
    return folder / name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 600, 530), (1, 1, 2, 700), (1, 1, 1, 1100)])
def test_whole_results_have_no_faults(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    assert verify(write(tmp_path, kind, shape)) == []


@pytest.mark.parametrize("kind", ["zarr 0.5", "zarr 0.4", "ome-tiff", "imagej"])
def test_several_channels_and_times_have_no_faults(tmp_path: Path, kind: str) -> None:
    assert verify(write(tmp_path, kind, (2, 2, 40, 530), (Channel("a"), Channel("b")))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_colour_has_no_faults(tmp_path: Path, kind: str) -> None:
    assert verify(write(tmp_path, kind, (1, 3, 600, 70), RGB, rgb=True)) == []


def stored_chunks(folder: Path) -> list[Path]:
    """Files of pixels, of the image, of its decision, and of its maps."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.isdecimal())


IMAGES = ["r.ome.zarr/0", "r.ome.zarr/labels/decision/1", "r.maps.ome.zarr/0"]


@pytest.mark.parametrize("kind", ["zarr 0.5", "zarr 0.4"])
@pytest.mark.parametrize("image", IMAGES)
def test_a_deleted_chunk_is_named(tmp_path: Path, kind: str, image: str) -> None:
    path = write(tmp_path, kind)
    victim = stored_chunks(tmp_path / image)[-1]
    victim.unlink()
    (finding,) = verify(path)
    assert finding.endswith("is missing or empty")
    assert victim.relative_to(tmp_path / image).as_posix() in finding
    assert image.rpartition("/")[0] in finding


@pytest.mark.parametrize("kind", ["zarr 0.5", "zarr 0.4"])
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("left", [0, 1, 0.99])
def test_a_truncated_chunk_or_shard_is_named(tmp_path: Path, kind: str, image: str, left: float) -> None:
    path = write(tmp_path, kind)
    victim = stored_chunks(tmp_path / image)[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    findings = verify(path)
    assert findings
    for finding in findings:
        assert victim.relative_to(tmp_path / image).as_posix() in finding
        assert image.rpartition("/")[0] in finding
        assert "is missing or empty" in finding or "cannot be read" in finding


def test_no_changed_byte_of_a_shard_stays_unseen(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr 0.5", (1, 1, 30, 40))
    (victim,) = stored_chunks(path / "0")
    whole = victim.read_bytes()
    for at in range(0, len(whole), 7):
        victim.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert len(verify(path)) == 1
    victim.write_bytes(whole)
    assert verify(path) == []


@pytest.mark.parametrize("kind", ["zarr 0.5", "zarr 0.4"])
@pytest.mark.parametrize("image", ["r.ome.zarr", "r.ome.zarr/labels/decision", "r.maps.ome.zarr"])
def test_a_wrong_pyramid_is_named(tmp_path: Path, kind: str, image: str) -> None:
    path = write(tmp_path, kind)
    level = zarr.open_group(tmp_path / image, mode="r+")["1"]
    level[..., 260, 3] += 1
    (finding,) = verify(path)
    assert finding.startswith(f"{image}, level 1 is not the level below made smaller, at y=256:300 x=0:35")


def edit(path: Path, change) -> None:
    found = json.loads(path.read_text())
    change(found["attributes"])
    path.write_text(json.dumps(found))


def forget_level(attributes) -> None:
    del attributes["ome"]["multiscales"][0]["datasets"][1]


def double_scale(attributes) -> None:
    attributes["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"][3] *= 2


def leave_store(attributes) -> None:
    attributes["ome"]["multiscales"][0]["datasets"][0]["path"] = "../r.maps.ome.zarr/0"


def drop_axis(attributes) -> None:
    del attributes["ome"]["multiscales"][0]["axes"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (forget_level, "has 1 levels; expected 2"),
        (double_scale, "level 1 has a scale that does not fit its size along Y"),
        (leave_store, "leads out of the store"),
        (drop_axis, "no valid OME-Zarr"),
        (lambda attributes: attributes.clear(), "cannot be opened as an image"),
    ],
)
def test_wrong_metadata_are_named(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path, "zarr 0.5")
    edit(path / "zarr.json", change)
    assert message in "\n".join(verify(path))


def test_broken_json_is_a_finding(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr 0.5")
    (path / "0/zarr.json").write_text("{")
    assert "r.ome.zarr cannot be opened as an image" in "\n".join(verify(path))
    (path / "zarr.json").unlink()
    assert "has no zarr metadata" in "\n".join(verify(path))


@pytest.mark.parametrize("kind", ["zarr 0.5", "zarr 0.4", "ome-tiff", "imagej"])
def test_missing_companions_are_named(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    for companion in [path / "labels", *(each for each in tmp_path.iterdir() if each != path)]:
        if companion.is_dir():
            shutil.rmtree(companion)
        elif companion.exists():
            companion.unlink()
    assert ["decision" in finding or "maps" in finding for finding in verify(path)] == [True, True]
    assert all("is missing; it was asked for" in finding for finding in verify(path))


@pytest.mark.parametrize("kind", ["zarr 0.5", "ome-tiff"])
def test_maps_of_another_result_are_named(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", kind, (1, 1, 600, 60))
    maps = tmp_path / other.name.replace("r.", "r.maps.")
    shutil.rmtree(maps) if maps.is_dir() else maps.unlink()
    (other.parent / maps.name).rename(maps)
    (finding,) = verify(path)
    assert finding.startswith(f"{maps.name} has T Y X = (1, 600, 60), its image {path.name} has (1, 600, 70)")


@pytest.mark.parametrize("name", ["r.ome.tif", "r.decision.ome.tif", "r.maps.ome.tif", "r.tif", "r.maps.tif", "r.png"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, left: float) -> None:
    suffix = name.replace(".decision", "").replace(".maps", "")
    path = write(tmp_path, {"r.ome.tif": "ome-tiff", "r.tif": "imagej", "r.png": "png"}[suffix])
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(left * len(whole))])
    findings = verify(path)
    assert findings
    assert all(finding.startswith(name) for finding in findings)


def test_a_damaged_tile_of_any_level_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "ome-tiff")
    with tifffile.TiffFile(path) as file:
        tiles = [
            (number, offset)
            for number, level in enumerate(file.series[0].levels)
            for offset in level.pages[0].dataoffsets
        ]
    whole = path.read_bytes()
    for number, offset in tiles:
        path.write_bytes(whole[:offset] + bytes(32) + whole[offset + 32 :])
        assert any(f"r.ome.tif, level {number}: plane 0 cannot be read" in finding for finding in verify(path))


def test_a_wrong_level_of_a_tiff_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "ome-tiff")
    pixels = [np.zeros((600, 70), np.uint8), np.ones((300, 35), np.uint8)]
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(pixels[0], tile=(512, 512), subifds=1)
        writer.write(pixels[1], tile=(512, 512), subfiletype=1)
    findings = verify(path)
    assert "r.ome.tif, level 1 is not the level below made smaller, at y=0:300 x=0:35" in findings


def test_many_faults_of_one_kind_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr 0.4", (1, 1, 500, 2000))
    for victim in itertools.islice(stored_chunks(path / "0"), 15):
        victim.unlink()
    findings = verify(path)
    assert len(findings) == 11
    assert findings[-1] == "5 more of the same kinds"


@pytest.mark.parametrize(
    ("name", "message"), [("none.ome.zarr", "does not exist"), ("a.txt", "is no output of `fuse`")]
)
def test_what_is_no_output_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserInputError, match=message):
        verify(tmp_path / name)
