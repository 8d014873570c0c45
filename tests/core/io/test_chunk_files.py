"""A chunk is there if zarr will open it: what lies under another key is read or refused, and never black."""

import json
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from hybridfusion_core.cli import main
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack

PIXELS = np.random.default_rng(0).integers(1, 4000, (3, 40, 50)).astype("uint16")
NAMINGS = {
    2: [{"name": "v2", "separator": "."}, {"name": "v2", "separator": "/"}],
    3: [{"name": name, "separator": separator} for name in ("default", "v2") for separator in "./"],
}


def write(path: Path, version: int, naming: dict, *, shards: bool = False, **array) -> zarr.Array:
    group = zarr.create_group(path, zarr_format=version)
    stored = group.create_array(
        "0",
        shape=PIXELS.shape,
        chunks=(1, 16, 16),
        dtype="uint16",
        chunk_key_encoding=naming,
        **({"shards": (1, 32, 32)} if shards else {}),
        **array,
    )
    stored[...] = PIXELS
    axes = [{"name": letter, "type": "space", "unit": "micrometer"} for letter in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 0.3, 0.3]}]
    metadata = {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == 3 else metadata)
    return stored


def say_otherwise(path: Path, version: int, naming: dict | None) -> None:
    """Change what the metadata say of the names of chunks; None says nothing, as early writers did."""
    file = path / "0" / (".zarray" if version == 2 else "zarr.json")
    stored = json.loads(file.read_text())
    if version == 2:
        stored.pop("dimension_separator", None)
        if naming is not None:
            stored["dimension_separator"] = naming["separator"]
    else:
        stored["chunk_key_encoding"] = {
            "name": naming["name"],
            "configuration": {"separator": naming["separator"]},
        }
    file.write_text(json.dumps(stored))


def read(path: Path, **options) -> tuple[np.ndarray, tuple[str, ...]]:
    with open_stack(path, **options) as stack:
        return np.asarray(stack.array), stack.warnings


PAIRS = [(v, one, other) for v, all_of in NAMINGS.items() for one in all_of for other in all_of]


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize(("version", "written", "said"), PAIRS)
def test_chunks_are_read_as_they_are_named_whatever_the_metadata_say(tmp_path, version, written, said, shards):
    if version == 2 and shards:
        pytest.skip("zarr 2 knows no shards")
    write(tmp_path / "a.zarr", version, written, shards=shards)
    say_otherwise(tmp_path / "a.zarr", version, said)
    pixels, warned = read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(pixels, PIXELS)
    assert [bool(re.search("read as they are named", each)) for each in warned] == [True] * (written != said)


def test_an_array_alone_and_metadata_that_say_nothing(tmp_path):
    write(tmp_path / "a.zarr", 2, NAMINGS[2][1])
    say_otherwise(tmp_path / "a.zarr", 2, None)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr/0", axes="ZYX")[0], PIXELS)


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_are_named_in_two_ways_are_refused(tmp_path, version):
    names = NAMINGS[version]
    write(tmp_path / "a.zarr", version, names[0])
    write(tmp_path / "b.zarr", version, names[1])
    encode = zarr.open_array(tmp_path / "b.zarr/0").metadata.encode_chunk_key
    before = zarr.open_array(tmp_path / "a.zarr/0").metadata.encode_chunk_key
    moved = tmp_path / "a.zarr/0" / encode((1, 0, 0))
    moved.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "a.zarr/0" / before((1, 0, 0))).rename(moved)
    with pytest.raises(StoredDataError, match=r"is named otherwise than the metadata say.*expected one way"):
        open_stack(tmp_path / "a.zarr")


@pytest.mark.parametrize("key", ["00.0.0", "1.0.9", "c.0.0.0", "1.0", "0.0.0.tmp"])
def test_files_of_almost_the_right_name_are_no_chunks(tmp_path, key):
    write(tmp_path / "a.zarr", 2, NAMINGS[2][0])
    (tmp_path / "a.zarr/0/0.0.0").rename(tmp_path / "a.zarr/0" / key)
    try:
        pixels, warned = read(tmp_path / "a.zarr")
    except StoredDataError:
        return
    assert "1 of 36 chunks are absent" in warned[0]
    assert not pixels[0, :16, :16].any()
    np.testing.assert_array_equal(pixels[1:], PIXELS[1:])


def test_an_empty_chunk_is_damage(tmp_path):
    write(tmp_path / "a.zarr", 2, NAMINGS[2][0])
    os.truncate(tmp_path / "a.zarr/0/1.0.0", 0)
    with pytest.raises(StoredDataError, match=r"the chunk 1\.0\.0 is empty"):
        open_stack(tmp_path / "a.zarr", absent="fill")


@pytest.mark.parametrize("version", [2, 3])
def test_a_slice_without_chunks_is_refused_unless_it_is_to_be_filled(tmp_path, version):
    stored = write(tmp_path / "a.zarr", version, NAMINGS[version][0], fill_value=7)
    for y in range(3):
        for x in range(4):
            (tmp_path / "a.zarr/0" / stored.metadata.encode_chunk_key((1, y, x))).unlink()
    with pytest.raises(StoredDataError, match=r"no chunk of the slice at Z=1 exists.*--absent fill"):
        open_stack(tmp_path / "a.zarr")
    pixels, warned = read(tmp_path / "a.zarr", absent="fill")
    assert "12 of 36 chunks are absent, all of the slice at Z=1 among them" in warned[0]
    assert (pixels[1] == 7).all()
    np.testing.assert_array_equal(pixels[[0, 2]], PIXELS[[0, 2]])
    words = ["fuse", str(tmp_path / "a.zarr"), "-o", str(tmp_path / "out.ome.zarr"), "--method", "tenengrad"]
    assert main(words) == 2
    assert main([*words, "--absent", "fill"]) == 0
    decision = zarr.open_array(tmp_path / "out.ome.zarr/labels/decision/0", mode="r")[...]
    assert not (decision == 2).any()  # nothing is in focus where nothing is


def test_a_store_without_any_chunk_is_never_filled(tmp_path):
    stored = write(tmp_path / "a.zarr", 2, NAMINGS[2][0])
    for key in np.ndindex(3, 3, 4):
        (tmp_path / "a.zarr/0" / stored.metadata.encode_chunk_key(key)).unlink()
    with pytest.raises(StoredDataError, match="no chunk of the slice") as refusal:
        open_stack(tmp_path / "a.zarr", absent="fill")
    assert "--absent" not in str(refusal.value)


def test_one_of_two_images_in_a_group_is_asked_for(tmp_path):
    write(tmp_path / "a.zarr", 3, NAMINGS[3][0])
    group = zarr.open_group(tmp_path / "a.zarr")
    group.create_array("1", data=PIXELS[:2] + 1)
    ome = dict(group.attrs["ome"])
    first = ome["multiscales"][0]
    second = {**first, "name": "second", "datasets": [{**first["datasets"][0], "path": "1"}]}
    group.attrs["ome"] = {**ome, "multiscales": [first, second]}
    with pytest.raises(UserInputError, match=r"describes 2 images: 0 .*, 1 \('second'\).*--series"):
        open_stack(tmp_path / "a.zarr")
    for series in (1, "1", "second"):
        np.testing.assert_array_equal(read(tmp_path / "a.zarr", series=series)[0], PIXELS[:2] + 1)


def test_a_scale_that_does_not_fit_can_be_given_by_the_user(tmp_path):
    write(tmp_path / "a.zarr", 2, NAMINGS[2][0])
    group = zarr.open_group(tmp_path / "a.zarr")
    image = dict(group.attrs["multiscales"][0])
    image["datasets"] = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.3, 0.3]}]}]
    group.attrs["multiscales"] = [image]
    with pytest.raises(StoredDataError, match=r"the scale \[0.3, 0.3\] does not fit 3 axes.*--pixel-size and --z-step"):
        open_stack(tmp_path / "a.zarr")
    with open_stack(tmp_path / "a.zarr", z_step_um=2.0, pixel_size_um=0.5) as stack:
        assert (stack.z.step_um, stack.y.step_um, stack.x.step_um) == (2.0, 0.5, 0.5)
        assert "does not fit 3 axes; it is not used" in stack.warnings[0]


def test_what_zarr_says_to_programmers_does_not_reach_users(tmp_path):
    write(tmp_path / "a.zarr", 2, NAMINGS[2][0])
    stored = json.loads((tmp_path / "a.zarr/0/.zarray").read_text())
    (tmp_path / "a.zarr/0/.zarray").write_text(json.dumps({**stored, "filters": []}))
    (tmp_path / "a.zarr/.DS_Store").write_bytes(b"x")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(read(tmp_path / "a.zarr")[0], PIXELS)
    assert caught == []


@pytest.mark.parametrize("name", ["a.zarr.zip", "a.ome.zarr.zip", "a.ozx"])
def test_a_zipped_store_can_be_opened_as_the_message_says(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(UserInputError, match=rf"{re.escape(name)} is an OME-Zarr in a zip file.*python -m zipfile -e"):
        open_stack(tmp_path / name)
