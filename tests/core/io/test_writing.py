"""What is written reads back: axes, steps, units, names, colours, type and pixels, in every format."""

import itertools
import json
from pathlib import Path

import imagecodecs
import numpy as np
import ome_zarr_models
import pytest
import tifffile
import yaozarrs
import zarr
from ome_zarr_models.v04.image import Image
from ome_zarr_models.v04.image_label import ImageLabel
from ome_zarr_models.v04.labels import Labels
from pydantic_zarr.v2 import ArraySpec, GroupSpec

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.pyramid import halve, level_factors
from hybridfusion_core.io.result_spec import MapChannel, ResultSpec
from hybridfusion_core.io.zarr.arrays import chunk_and_shard
from hybridfusion_core.stack import Axis, Channel

UM = "micrometer"
CHANNELS = (Channel("DAPI", "0000FF", window=(3.0, 90.0)), Channel("GFP é", "00FF00", window=(0.0, 9.0)))
RGB = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"))


# ome-zarr-models 1.7 leaves its 0.4 models undefined with pydantic 2.14.
for model in (Labels, Image, ImageLabel):
    model.model_rebuild(_types_namespace={"GroupSpec": GroupSpec, "ArraySpec": ArraySpec})


def make_spec(shape=(2, 2, 45, 37), dtype="uint16", channels=CHANNELS, *, rgb=False, maps=True, **changes):
    return ResultSpec(
        name="organoid",
        shape=shape,
        dtype=np.dtype(dtype),
        channels=channels[: shape[1]],
        rgb=rgb,
        **{
            "t": Axis(60.0, "second"),
            "z": Axis(0.7, UM),
            "y": Axis(0.25, UM),
            "x": Axis(0.5, UM),
            "slices": 6,
            "decision_channels": ("all",) if maps else (),
            "maps": (MapChannel("height_um", (0.0, 3.5)), MapChannel("confidence", (0.0, 1.0))) if maps else (),
            "provenance": {"model": "tiny", "settings": {"b": [1, 2], "a": None}},
            **changes,
        },
    )


def make_pixels(spec):
    rng = np.random.default_rng(0)
    made = {}
    for name, (shape, dtype) in spec.array_shapes().items():
        made[name] = rng.integers(0, 7, shape).astype(dtype) * (1 if name == "decision" else 3)
        if name == "maps":
            made[name][..., ::4, :] = np.nan
    return made


def write(path, spec, block=256, **options):
    pixels = make_pixels(spec)
    with create_output(path, spec, block=block, **options) as output:
        for name, array in output.arrays.items():
            t, c, _, y, x = array.shape
            for i, j, top, left in itertools.product(range(t), range(c), range(0, y, block), range(0, x, block)):
                region = (i, j, slice(None), slice(top, min(top + block, y)), slice(left, min(left + block, x)))
                array[region] = pixels[name][region]
        output.commit()
    return pixels


def read_all(stack):
    t, c, _, y, x = stack.shape
    return np.stack([[stack.read(i, j, [0], slice(0, y), slice(0, x)) for j in range(c)] for i in range(t)])


def check_steps(stack, spec):
    for letter in "tzyx":
        found, expected = getattr(stack, letter), getattr(spec, letter)
        assert found.unit == expected.unit
        assert found.step == pytest.approx(expected.step)


def validate(path):
    yaozarrs.validate_zarr_store(str(path))
    ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"))
    if (path / "labels").exists():
        ome_zarr_models.open_ome_zarr(zarr.open_group(path / "labels", mode="r"))
        ome_zarr_models.open_ome_zarr(zarr.open_group(path / "labels/decision", mode="r"))


@pytest.mark.parametrize(
    ("suffix", "options"), [(".ome.zarr", {}), (".ome.zarr", {"ngff": "0.4"}), (".ome.tif", {}), (".tif", {})]
)
@pytest.mark.parametrize(
    "shape", [(2, 2, 45, 37), (1, 1, 1, 1), (1, 2, 17, 513), (1, 2, 1, 1100), (2, 1, 1, 600), (1, 2, 1100, 1)]
)
def test_result_reads_back(tmp_path, suffix, options, shape):
    spec = make_spec(shape)
    if suffix == ".tif" and shape[3] == 1:
        with pytest.raises(UserInputError, match="one pixel wide"):
            create_output(tmp_path / "r.tif", spec)
        return
    pixels = write(tmp_path / f"r{suffix}", spec, **options)
    with open_stack(tmp_path / f"r{suffix}") as stack:
        check_steps(stack, spec)
        assert stack.dtype == spec.dtype
        np.testing.assert_array_equal(read_all(stack), pixels["fused"])
        if suffix == ".ome.zarr":
            assert stack.channels == spec.channels
        if suffix == ".ome.tif":
            assert [(each.name, each.color) for each in stack.channels] == [(c.name, c.color) for c in spec.channels]
        assert stack.warnings == ()
    with open_stack(tmp_path / f"r.maps{suffix}") as maps:
        check_steps(maps, spec)
        np.testing.assert_array_equal(read_all(maps), pixels["maps"])
        if suffix != ".tif":
            assert [each.name for each in maps.channels] == ["height_um", "confidence"]
    decision = tmp_path / ("r.ome.zarr/labels/decision" if suffix == ".ome.zarr" else f"r.decision{suffix}")
    with open_stack(decision) as labels:
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(read_all(labels), pixels["decision"])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32", "float16", "float32", "float64"])
def test_every_type_keeps_its_values(tmp_path, dtype):
    spec = make_spec(dtype=dtype, maps=False)
    for suffix in (".ome.zarr", ".ome.tif") if dtype != "float16" else (".ome.zarr",):
        pixels = write(tmp_path / f"r{suffix}", spec)
        with open_stack(tmp_path / f"r{suffix}") as stack:
            assert stack.dtype.name == dtype
            np.testing.assert_array_equal(read_all(stack), pixels["fused"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["r.ome.zarr"] + (["r.ome.tif"] if dtype != "float16" else [])
    )


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif", ".tif", ".png"])
def test_colour_stays_colour(tmp_path, suffix):
    spec = make_spec((1, 3, 20, 30), "uint8", RGB, rgb=True)
    pixels = write(tmp_path / f"r{suffix}", spec)
    with open_stack(tmp_path / f"r{suffix}") as stack:
        assert stack.rgb
        np.testing.assert_array_equal(read_all(stack), pixels["fused"])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_the_values_and_nothing_else(tmp_path, dtype):
    spec = make_spec((1, 1, 300, 20), dtype)
    pixels = write(tmp_path / "r.png", spec)
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "r.png").read_bytes()), pixels["fused"][0, 0, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["r.png"]


def described(group, ngff):
    return group.attrs if ngff == "0.4" else group.attrs["ome"]


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 600, 1100), (1, 1, 1, 1025)])
def test_ome_zarr_is_valid_and_whole(tmp_path, shape, ngff):
    spec = make_spec(shape)
    pixels = write(tmp_path / "r.ome.zarr", spec, ngff=ngff)
    for path in (tmp_path / "r.ome.zarr", tmp_path / "r.maps.ome.zarr"):
        validate(path)
    group = zarr.open_group(tmp_path / "r.ome.zarr", mode="r")
    assert group.metadata.zarr_format == {"0.4": 2, "0.5": 3}[ngff]
    assert group.attrs["hybridfusion"] == spec.provenance
    levels = described(group, ngff)["multiscales"][0]["datasets"]
    labels = described(group["labels/decision"], ngff)
    assert len(levels) == len(labels["multiscales"][0]["datasets"])
    assert max(group[levels[-1]["path"]].shape) <= 512
    for level, dataset in enumerate(levels):
        scale, *translation = (each[each["type"]] for each in dataset["coordinateTransformations"])
        # An axis that is down to one pixel is no further shrunk.
        halvings = [min(level, int(np.ceil(np.log2(length)))) for length in shape[2:]]
        steps = [0.25, 0.5]
        assert scale == [60.0, 1.0, 0.7, *(step * 2**n for step, n in zip(steps, halvings, strict=True))]
        if level:
            shifts = [(2**n - 1) / 2 * step for step, n in zip(steps, halvings, strict=True)]
            assert translation == [[0.0, 0.0, 0.0, *shifts]]
        np.testing.assert_array_equal(
            group[f"labels/decision/{level}"][:], pixels["decision"][..., :: 2 ** halvings[0], :: 2 ** halvings[1]]
        )


def test_decision_colours_follow_the_slices(tmp_path):
    write(tmp_path / "r.ome.zarr", make_spec())
    label = zarr.open_group(tmp_path / "r.ome.zarr/labels/decision", mode="r").attrs["ome"]["image-label"]
    assert label["source"] == {"image": "../../"}
    assert [each["label-value"] for each in label["colors"]] == list(range(7))
    assert label["colors"][0]["rgba"] == [0, 0, 0, 0]
    assert label["colors"][1]["rgba"] == [68, 1, 84, 255]
    greens = [each["rgba"][1] for each in label["colors"][1:]]
    assert greens == sorted(greens)


def test_missing_window_and_colour_are_made_up_from_the_pixels(tmp_path):
    spec = make_spec((1, 1, 40, 40), channels=(Channel("0"),), maps=False)
    pixels = write(tmp_path / "r.ome.zarr", spec)
    with open_stack(tmp_path / "r.ome.zarr") as stack:
        low, high = float(pixels["fused"].min()), float(pixels["fused"].max())
        assert stack.channels == (Channel("0", "FFFFFF", window=(low, high)),)


def test_tiff_pyramid_and_provenance(tmp_path):
    spec = make_spec((1, 2, 600, 1100))
    write(tmp_path / "r.ome.tif", spec)
    for name in ("r", "r.decision", "r.maps"):
        with tifffile.TiffFile(tmp_path / f"{name}.ome.tif") as file:
            assert file.is_bigtiff
            assert [level.shape[-2:] for level in file.series[0].levels] == [(600, 1100), (300, 550), (150, 275)]
            values = file.ome_metadata.split('<M K="hybridfusion">')[1].split("</M>")[0]
            assert json.loads(values.replace("&quot;", '"')) == spec.provenance


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif", ".tif", ".png"])
def test_equal_settings_give_equal_bytes(tmp_path, suffix):
    spec = make_spec((1, 1, 300, 530))
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / f"r{suffix}", spec)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert written[0] == written[1]


def test_order_and_size_of_blocks_leave_no_trace(tmp_path):
    spec = make_spec((1, 1, 600, 530), maps=False)
    pixels = make_pixels(spec)
    for name, block in (("one", 600), ("two", 100)):
        (tmp_path / name).mkdir()
        with create_output(tmp_path / name / "r.ome.zarr", spec, block=256) as output:
            starts = list(itertools.product(range(0, 600, block), range(0, 530, block)))
            for top, left in reversed(starts):
                region = np.s_[:, :, :, top : min(top + block, 600), left : min(left + block, 530)]
                output.arrays["fused"][region] = pixels["fused"][region]
            output.commit()
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("length", "block", "expected"),
    [
        (1, 256, (1, 1)),
        (523, 256, (256, 256)),
        (523, 300, (256, 512)),
        (5000, 1024, (512, 1024)),
        (600, 2048, (512, 1024)),
    ],
)
def test_shards_cover_a_block_and_no_more_than_the_plane(length, block, expected):
    assert chunk_and_shard(length, block) == expected


def test_shards_are_halved_with_each_level_so_that_each_comes_from_one(tmp_path):
    shards = [chunk_and_shard(9000, 2048, level) for level in range(4)]
    assert shards == [(512, 2048), (512, 1024), (512, 512), (512, 512)]
    spec = make_spec((1, 1, 1100, 1100), "uint8", maps=False)
    write(tmp_path / "r.ome.zarr", spec, block=512)
    group = zarr.open_group(tmp_path / "r.ome.zarr", mode="r")
    assert [group[str(level)].shards[3:] for level in range(3)] == [(512, 512), (256, 256), (256, 256)]


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_all_chunks_are_files_also_those_of_nothing(tmp_path, ngff):
    spec = make_spec((1, 1, 600, 300), "uint8", maps=False)
    with create_output(tmp_path / "r.ome.zarr", spec, block=256, ngff=ngff) as output:
        output.arrays["fused"][...] = 0
        output.commit()
    keys = {path.relative_to(tmp_path / "r.ome.zarr").as_posix() for path in tmp_path.rglob("[0-9]") if path.is_file()}
    expected = {f"0/{'c/' if ngff == '0.5' else ''}0/0/0/{y}/{x}" for y in range(3) for x in range(2)}
    assert keys == expected | {f"1/{'c/' if ngff == '0.5' else ''}0/0/0/{y}/0" for y in range(2)}


def test_halving_means_what_is_known():
    plane = np.array([[1, np.nan, 4], [3, np.nan, 6], [np.nan, np.nan, 8]], np.float32)
    np.testing.assert_array_equal(halve(plane, "mean"), np.array([[2, 5], [np.nan, 8]], np.float32))
    np.testing.assert_array_equal(halve(np.array([[0, 1], [1, 1]], np.uint8), "mean"), [[1]])
    np.testing.assert_array_equal(halve(np.arange(9).reshape(3, 3), "nearest"), [[0, 2], [6, 8]])
    largest = np.full((2, 2), 2**32 - 1, np.uint32)
    np.testing.assert_array_equal(halve(largest, "mean"), largest[:1, :1])


def test_levels_end_at_512_pixels():
    assert level_factors(512, 1) == [(1, 1)]
    assert level_factors(1, 1025) == [(1, 1), (1, 2), (1, 4)]
    assert level_factors(2, 1025) == [(1, 1), (2, 2), (2, 4)]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("r.jpg", {}, r"no known suffix.*\.ome\.zarr, \.ome\.tif, \.tif, \.png"),
        (".png", {}, "no known suffix"),
        ("r.ome.tif", {"ngff": "0.4"}, r"is no OME-Zarr, and NGFF 0\.4 was asked for"),
        ("missing/r.ome.tif", {}, "missing does not exist"),
        ("r.png", {"dtype": "float32"}, "a PNG holds uint8 or uint16"),
        ("r.png", {"shape": (2, 1, 4, 4)}, "2 time points and 1 channels"),
        ("r.png", {"shape": (1, 2, 4, 4)}, "1 time points and 2 channels.*--channels"),
        ("r.tif", {"shape": (3, 2, 30000, 24000)}, r"holds 16\.1 GiB in one file, an ImageJ TIFF less than 4"),
        ("r.tif", {"dtype": "uint32"}, r"ImageJ TIFF cannot hold.*Write an \.ome\.tif"),
        ("r.tif", {"dtype": "uint16", "shape": (1, 3, 4, 4), "channels": RGB, "rgb": True}, "RGB uint16"),
        ("r.ome.tif", {"dtype": "float16"}, "float16, which OME-TIFF cannot hold"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_any_work(tmp_path, name, changes, message):
    options = {"ngff": changes["ngff"]} if "ngff" in changes else {}
    changes = {key: value for key, value in changes.items() if key != "ngff"}
    with pytest.raises(UserInputError, match=message):
        create_output(tmp_path / name, make_spec(**changes), **options)
    assert list(Path(tmp_path).iterdir()) == []
