"""Uneven light is taken out to within 1 %, and pictures that do not fit are refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

import hybridfusion_core as hf
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.shading.estimate import estimated, small_copy
from hybridfusion_core.stack import Channel, Stack

PLANE = (96, 128)
OFFSET = 100


def vignette() -> np.ndarray:
    y, x = np.mgrid[: PLANE[0], : PLANE[1]]
    return 1 - 0.6 * (((y - 40) / 128) ** 2 + ((x - 80) / 128) ** 2)


def picture(path: Path, pixels: np.ndarray) -> str:
    tifffile.imwrite(path, pixels)
    return str(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_flat_specimen_comes_out_flat(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(1)
    stack = (OFFSET + 20_000 * vignette() + rng.normal(0, 20, (3, *PLANE))).astype(dtype)
    flat = picture(tmp_path / "flat.tif", (OFFSET + 3000 * vignette()).astype(np.float32))
    dark = picture(tmp_path / "dark.tif", np.full(PLANE, OFFSET, np.uint16))
    result = hf.fuse(stack, z_step_um=1.0, method="mean", flat_field=flat, dark=dark)
    light = result.fused - float(OFFSET)
    assert np.abs(light / light.mean() - 1).max() < 0.01
    assert result.spec.provenance["treatment"]["light"] == {"flat_field": "flat.tif", "dark": "dark.tif"}


def test_without_light_the_dark_stays_what_it_is(tmp_path: Path) -> None:
    dark = np.full(PLANE, OFFSET, np.uint16)
    dark[5, 7] = 900
    result = hf.fuse(np.repeat(dark[None], 2, 0), z_step_um=1.0, method="mean", dark=picture(tmp_path / "d.tif", dark))
    assert np.ptp(result.fused) == 0
    assert abs(float(result.fused.mean()) - OFFSET) <= 1


def test_an_estimate_over_fields_finds_the_light() -> None:
    rng = np.random.default_rng(2)
    copies = []
    for _ in range(12):
        cells = np.zeros(PLANE)
        for _ in range(30):
            y, x = rng.integers(0, PLANE[0] - 8), rng.integers(0, PLANE[1] - 8)
            cells[y : y + 8, x : x + 8] = rng.uniform(100, 900)
        stack = (OFFSET + (400 + cells) * vignette() + rng.normal(0, 5, (2, *PLANE))).astype(np.uint16)
        copies.append(small_copy(Stack.from_array(stack)))
    flat, dark = estimated([(mean - OFFSET, least - OFFSET) for mean, least in copies], PLANE, dark=False)
    assert not dark.any()
    assert np.abs(flat[0] / (vignette() / vignette().mean()) - 1).max() < 0.05
    with pytest.raises(UserInputError, match="8 at least"):
        estimated(copies[:3], PLANE, dark=False)


@pytest.mark.parametrize(
    ("flat", "match"),
    [
        (np.zeros(PLANE, np.float32), "zeros, negative or NaN"),
        (np.where(np.arange(128) == 3, 0, 1000) * np.ones((96, 1), np.float32), "zeros, negative or NaN"),
        (np.ones((96, 127), np.float32), "96 × 127"),
        (np.ones((3, 96, 128), np.float32)[:, None], None),
    ],
)
def test_a_flat_field_that_does_not_fit_is_refused(tmp_path: Path, flat: np.ndarray, match: str | None) -> None:
    stack = np.ones((2, *PLANE), np.uint16)
    path = tmp_path / "flat.npy"
    np.save(path, flat)
    with pytest.raises(UserInputError, match=match or "axes"):
        hf.fuse(stack, z_step_um=1.0, method="mean", flat_field=str(path))


def test_one_field_says_nothing_of_the_light() -> None:
    with pytest.raises(UserInputError, match="fuse the plate with `batch`"):
        hf.fuse(np.ones((2, *PLANE), np.uint16), z_step_um=1.0, method="mean", flat_field="auto")


INDEX = """<?xml version="1.0" encoding="utf-8"?><EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5">
<Maps><Map>{}</Map></Maps><Images><Image><Row>1</Row></Image></Images></EvaluationInputData>"""
SHAPE = "Dims: [128, 96], Origin: [63.5, 47.5], Scale: [0.0156, 0.0208], Type: Polynomial"


def harmony_entry(number: int, name: str, light: str) -> str:
    """A profile as Harmony writes it: keys and words without quotes, a version with a colon in it."""
    text = (
        "{Background: {Character: NonFlat, Mean: 150.0, Profile: {Coefficients: [[1.0], [0.1, -0.2]], "
        f"{SHAPE}}}}}, Channel: {number}, ChannelName: {name}, Foreground: {{Character: NonFlat, Profile: "
        f"{{Coefficients: {light}, {SHAPE}}}}}, Version: Acapella:2013}}"
    )
    return f'<Entry ChannelID="{number}"><FlatfieldProfile>{text}</FlatfieldProfile></Entry>'


def test_the_profiles_of_harmony_make_a_flat_specimen_flat(tmp_path: Path) -> None:
    index = tmp_path / "Index.idx.xml"
    light = {"Alexa 488": "[[0.9], [0.0, 0.0], [0, 0, 0]]", "HOECHST 33342": "[[1.0], [0.1, -0.05], [-0.2, 0.1, -0.3]]"}
    index.write_text(INDEX.format("".join(harmony_entry(n, *each) for n, each in enumerate(light.items(), 1))))
    x, y = (np.arange(128) - 63.5) * 0.0156, ((np.arange(96) - 47.5) * 0.0208)[:, None]
    shades = 1 + 0.1 * x - 0.05 * y - 0.2 * x * x + 0.1 * x * y - 0.3 * y * y, np.full(PLANE, 0.9)
    ground = 150 * (1 + 0.1 * x - 0.2 * y)
    pixels = np.stack([np.stack([8000 * shade + ground] * 2) for shade in shades]).astype(np.float32)
    stack = Stack(pixels, "CZYX", "flat", (Channel("HOECHST 33342"), Channel("Alexa 488")))
    result = hf.fuse(stack, method="mean", flat_field=str(index), dark=str(index))
    for channel in result.fused[0, :, 0]:
        assert np.ptp(channel) / channel.mean() < 1e-3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (INDEX.format(harmony_entry(1, "DAPI", "[[1.0]]")), "one, and one only, for 'ch0'"),
        (INDEX.format(harmony_entry(1, "ch0", "[[1.0], [0.1, 0.2, 0.3]]")), "impossible numbers"),
        (INDEX.format(harmony_entry(1, "ch0", "[[1.0], [1e999, 0]]")), "impossible numbers"),
        (INDEX.format(harmony_entry(1, "ch0", "[" * 50)), "cannot be read|that can be read"),
        (INDEX.format(harmony_entry(1, "ch0", "[[1.0]]").replace("Foreground", "Other")), "goes to --dark"),
        (INDEX.format(harmony_entry(1, "ch0", "[[1.0]]").replace("128", "4000000000")), "impossible numbers"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "that can be read"),
        (INDEX.format(""), "profiles of the channels none"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(tmp_path: Path, text: str, match: str) -> None:
    index = tmp_path / "Index.xml"
    index.write_text(text)
    stack = Stack(np.ones((1, 2, *PLANE), np.uint16), "CZYX", "flat", (Channel("ch0"),))
    with pytest.raises(UserInputError, match=match):
        hf.fuse(stack, method="mean", flat_field=str(index))
