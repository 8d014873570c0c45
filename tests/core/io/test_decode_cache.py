"""What can only be decoded as a whole is decoded once, and nothing else changes."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
import zarr
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.fusion.api import steps_in_memory, steps_to_disk
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.io import picture_files
from hybridfusion_core.io.decode_cache import _PREFIX, decoded_once, maker
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.region import RegionView
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack

SHAPE = (2, 2, 3, 70, 90)  # T C Z Y X


class Counting:
    """An array that counts how often each unit is touched."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.reads: list[tuple] = []

    def __getitem__(self, key: tuple) -> np.ndarray:
        self.reads.append(key)
        return self.array[key]


def counting(unit: tuple[int, int, int, int, int] | None, dtype: str = "uint16") -> tuple[Stack, Counting]:
    t, c, z, y, x = SHAPE
    planes = [textured_stack((z, y, x), dtype, seed=seed) for seed in range(t * c)]
    array = Counting(np.stack(planes).reshape(SHAPE))
    return Stack(array, "TCZYX", decode_unit=unit), array


def job_for(stack: Stack, *, room: bool, method: str = "tenengrad"):
    job = resolve(make_request(method=method, tile=64, memory=2**30), stack)
    needed = job.plan.bytes_needed
    return replace(job, plan=replace(job.plan, block=64, budget=needed + (2**30 if room else 0)))


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("unit", [(1, 1, 1, 70, 90), (1, 1, 1, 8, 90), (1, 2, 2, 70, 90), (2, 1, 3, 70, 90)])
def test_every_plane_is_decoded_once_and_the_result_is_the_same(tmp_path, unit, room) -> None:
    plain, _ = counting(None)
    stack, array = counting(unit)
    expected = run_to_end(steps_in_memory(job_for(plain, room=room), plain), None)
    job = job_for(stack, room=room)
    made = run_to_end(steps_to_disk(job, stack, tmp_path / "a.ome.zarr", preview=tmp_path / "a.png"), None)
    planes = [
        (t, c, z)
        for key in array.reads
        for t, c, z in np.ndindex(SHAPE[:3])
        if all(at in range(*place.indices(n)) for at, place, n in zip((t, c, z), key, SHAPE[:3], strict=False))
    ]
    assert sorted(planes) == list(np.ndindex(SHAPE[:3]))
    assert made.provenance["statistics"] == expected.spec.provenance["statistics"]
    with open_stack(tmp_path / "a.ome.zarr") as written:
        np.testing.assert_array_equal(written.array[:, :, 0], expected.fused[:, :, 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.maps.ome.zarr", "a.ome.zarr", "a.png"]


def test_what_can_be_read_by_region_is_left_alone(tmp_path) -> None:
    for unit in (None, (1, 1, 1, 64, 64)):
        stack, array = counting(unit)
        with decoded_once(stack, 64, room=0, folder=tmp_path) as same:
            assert same is stack
        assert not array.reads


@pytest.mark.parametrize("room", [0, 2**30])
def test_a_spool_reads_as_the_stack_does(tmp_path, room) -> None:
    stack, array = counting((1, 1, 2, 70, 90))
    keys = [np.s_[0, 1, 0], np.s_[1, 0, 1:3, 5:9, ::3], np.s_[..., -1], np.s_[0, 0, 0, 3], np.s_[:, 1, 2, 4:4]]
    with decoded_once(stack, 64, room=room, folder=tmp_path) as other:
        for key in keys:
            np.testing.assert_array_equal(other.array[key], array.array[key])


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_pictures_are_decoded_once(tmp_path, monkeypatch, kind) -> None:
    decoded = []
    real = picture_files._decode
    monkeypatch.setattr(picture_files, "_decode", lambda path: decoded.append(path.name) or real(path))
    for index, plane in enumerate(textured_stack((3, 100, 120), "uint8")):
        colour = np.stack([plane, plane // 2, plane // 3], axis=-1)
        if kind == "tif":
            tifffile.imwrite(tmp_path / f"{index}.tif", colour, photometric="rgb", compression="zlib", metadata=None)
        else:
            encode = imagecodecs.png_encode if kind == "png" else imagecodecs.jpeg8_encode
            (tmp_path / f"{index}.{kind}").write_bytes(encode(colour))
    hf.fuse_to(tmp_path, tmp_path.with_suffix(".ome.tif"), method="tenengrad", tile=64)
    assert sorted(decoded) == [f"{index}.{kind}" for index in range(3)]


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_compressed_tiff_planes_of_one_strip_are_decoded_once(tmp_path, monkeypatch, photometric) -> None:
    planes = textured_stack((3, 100, 120), "uint16")
    if photometric == "rgb":
        planes = np.stack([planes, planes // 2, planes // 3], axis=-1)
    axes = "ZYXS" if photometric == "rgb" else "ZYX"
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, planes, compression="zlib", photometric=photometric, rowsperstrip=100, metadata={"axes": axes}
    )
    grey = photometric != "rgb"
    expected = hf.fuse(hf.Stack.from_array(planes), method="tenengrad", tile=64).fused if grey else None
    reads = []
    real = RegionView.__getitem__
    monkeypatch.setattr(RegionView, "__getitem__", lambda view, key: reads.append(key) or real(view, key))
    fused = hf.fuse(path, method="tenengrad", tile=64).fused
    assert len(reads) == 3
    if expected is not None:
        np.testing.assert_array_equal(fused[0, 0, 0], expected[0, 0, 0])


def test_wide_strips_are_decoded_once_and_uncompressed_planes_read_by_row(tmp_path) -> None:
    planes = textured_stack((2, 40, 300), "uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", planes, compression="lzw", rowsperstrip=8, photometric="minisblack", metadata=None
    )
    tifffile.imwrite(tmp_path / "b.tif", planes, rowsperstrip=40, photometric="minisblack", metadata=None)
    with open_stack(tmp_path / "a.tif", axes="ZYX") as strips, open_stack(tmp_path / "b.tif", axes="ZYX") as raw:
        assert strips.decode_unit == (1, 1, 1, 8, 300)
        assert raw.decode_unit is None
        with decoded_once(strips, 64, room=0, folder=tmp_path) as other:
            assert other is not strips
            np.testing.assert_array_equal(other.array[0, 0], planes)


def test_scratch_of_dead_processes_is_removed_and_of_living_ones_kept(tmp_path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not psutil.pid_exists(child.pid)
    pid, started = maker(os.getppid()).split("-")
    dead = tmp_path / f"{_PREFIX}-{child.pid}-{started}-x.decoded"
    namesake = tmp_path / f"{_PREFIX}-{pid}-{int(started) - 3600}-x.decoded"  # died, and its number was given again
    alive = tmp_path / f"{_PREFIX}-{pid}-{started}-x.decoded"
    other = tmp_path / ".hybridfusion-0-1-1-x.decoded"  # of another computer
    for path in (dead, namesake, alive, other):
        (path / "c").mkdir(parents=True)
    stack = Stack.from_array(textured_stack((2, 32, 32)))
    job = resolve(make_request(method="max"), stack)
    run_to_end(steps_to_disk(job, stack, tmp_path / "a.ome.zarr"), None)
    assert [path.exists() for path in (dead, namesake, alive, other)] == [False, False, True, True]


# Fuses a folder of pictures as far as the second one, whose decoding never ends.
STUCK = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/io"]
import imagecodecs
from test_decode_cache import fuse_without_room
real, decoded = imagecodecs.png_decode, []
def decode(data):
    decoded.append(data)
    if len(decoded) == 2:
        print("stuck", flush=True)
        sys.stdin.read()
    return real(data)
imagecodecs.png_decode = decode
fuse_without_room(sys.argv[2], sys.argv[3])
"""


def fuse_without_room(source: str | Path, output: str | Path) -> None:
    with open_stack(source, z_step_um=1.0) as stack:
        run_to_end(steps_to_disk(job_for(stack, room=False), stack, Path(output)), None)


@pytest.mark.slow
def test_a_run_killed_while_it_spools_leaves_scratch_that_the_next_start_removes(tmp_path: Path) -> None:
    pictures, results = tmp_path / "pictures", tmp_path / "results"
    pictures.mkdir()
    results.mkdir()
    planes = textured_stack((3, 100, 120), "uint8")
    for index, plane in enumerate(planes):
        (pictures / f"{index}.png").write_bytes(imagecodecs.png_encode(plane))
    words = [
        sys.executable,
        "-c",
        STUCK,
        str(Path(__file__).parents[1]),
        str(pictures),
        str(results / "a.ome.zarr"),
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdout is not None
        assert child.stdout.readline() == b"stuck\n"
        child.kill()
    # Beside the output that had been begun.
    (left,) = (each for each in results.iterdir() if each.name.startswith(f"{_PREFIX}-{child.pid}-"))
    assert zarr.open_array(left, mode="r").nchunks_initialized == 1  # the first plane
    fuse_without_room(pictures, results / "a.ome.zarr")
    assert sorted(path.name for path in results.iterdir()) == ["a.maps.ome.zarr", "a.ome.zarr"]
    with open_stack(results / "a.ome.zarr") as fused:
        expected = hf.fuse(planes, z_step_um=1.0, method="tenengrad", tile=64).fused
        np.testing.assert_array_equal(fused.read(0, 0, [0], slice(0, 100), slice(0, 120))[0], expected)


def test_nothing_stays_after_a_failure(tmp_path) -> None:
    stack, array = counting((1, 1, 1, 70, 90), "float32")
    array.array[1, 0, 2, 67, 79] = np.nan
    job = job_for(stack, room=False)
    with pytest.raises(hf.UserInputError, match=r"t=1, c=0, z=2, y=67, x=79 is nan"):
        run_to_end(steps_to_disk(job, stack, tmp_path / "a.ome.zarr"), None)
    steps = steps_to_disk(job, stack, tmp_path / "a.ome.zarr")
    next(steps)
    assert list(tmp_path.iterdir())  # the scratch folder
    steps.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="room is limited as on Unix")
def test_a_full_disk_is_explained(tmp_path) -> None:
    stack, array = counting((1, 1, 1, 70, 90))
    array.array[...] = np.random.default_rng(0).integers(0, 60_000, SHAPE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with (
            pytest.raises(hf.UserInputError, match=r"no room left for .*\.decoded"),
            decoded_once(stack, 64, room=0, folder=tmp_path) as other,
        ):
            other.read(0, 0, [0], slice(0, 70), slice(0, 90))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_plane_larger_than_memory_is_refused(tmp_path) -> None:
    huge = zarr.create_array(tmp_path / "a.zarr", shape=(2, 10**7, 10**7), chunks=(1, 10**7, 10**7), dtype="uint8")
    stack = Stack(huge, "ZYX", decode_unit=(1, 1, 1, 10**7, 10**7))
    with pytest.raises(hf.UserInputError, match="can only be decoded as a whole"), decoded_once(stack, 64, room=0):
        pass


def test_the_scratch_is_a_zarr_array_of_small_chunks(tmp_path: Path) -> None:
    stack, _ = counting((1, 1, 1, 70, 90))
    with decoded_once(stack, 64, room=0, folder=tmp_path) as other:
        other.read(0, 0, [0], slice(0, 1), slice(0, 1))
        (scratch,) = tmp_path.iterdir()
        assert zarr.open_array(scratch, mode="r").nchunks_initialized == 1
