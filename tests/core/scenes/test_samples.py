"""Samples are what they say: drawn from their seed alone, sharp where their truth says, written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.scenes.samples import plate, write
from hybridfusion_core.scenes.samples.organoid import organoid_stack, organoid_with_surface
from hybridfusion_core.scenes.samples.pair import pair_stack
from hybridfusion_core.scenes.samples.write import write_sample


@pytest.fixture
def small_organoid(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    stack = organoid_stack(size=96, slices=3)
    monkeypatch.setattr(write, "organoid_stack", lambda: stack)
    return np.asarray(stack.array)


def detail(slices: np.ndarray) -> np.ndarray:
    """Laplacian energy of variance-stabilised slices, Z Y X."""
    stable = np.sqrt(slices.astype(float))
    smooth = ndimage.gaussian_filter(stable, (0, 1, 1))
    return ndimage.gaussian_filter(ndimage.laplace(smooth, axes=(1, 2)) ** 2, (0, 4, 4))


def test_the_seed_alone_decides_what_is_drawn():
    first, again, other = (np.asarray(organoid_stack(size=96, slices=3, seed=seed).array) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    pairs = [np.asarray(pair_stack(seed).array) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(pairs[0], pairs[1])
    assert (pairs[0] != pairs[2]).mean() > 0.5


def test_organoid_says_its_channels_and_scale():
    stack = organoid_stack(size=96, slices=3)
    assert stack.shape == (1, 2, 3, 96, 96)
    assert stack.dtype == np.uint16
    assert [channel.name for channel in stack.channels] == ["DAPI", "membrane"]
    assert not any(channel.transmitted for channel in stack.channels)
    assert stack.y.step_um == stack.x.step_um == 0.325
    assert stack.z_um is not None
    np.testing.assert_allclose(stack.z_um, [0, 4, 8])


def test_organoid_stands_on_the_camera_offset_and_saturates_nowhere():
    counts = np.asarray(organoid_stack(size=128, slices=4).array)
    assert 90 < counts.min() < 160
    assert 2000 < counts.max() < 60_000


def test_organoid_is_sharpest_where_its_surface_lies():
    stack, surface = organoid_with_surface(size=384, slices=9)
    energy = sum(detail(np.asarray(stack.array)[channel]) for channel in range(2))
    steep = np.hypot(*np.gradient(np.nan_to_num(surface, nan=-9))) > 0.12  # several slices within one neighbourhood
    tested = 0
    for index in range(2, 8):
        region = (np.abs(surface - index) < 0.5) & ~ndimage.binary_dilation(steep, iterations=3)
        if region.sum() > 400:
            profile = energy[:, region].mean(axis=1)
            assert abs(int(profile.argmax()) - index) <= 1, profile
            tested += 1
    assert tested >= 4


def test_organoid_has_an_empty_background_and_several_depths():
    _, surface = organoid_with_surface(size=256, slices=8)
    assert 0.3 < np.isnan(surface).mean() < 0.95
    assert np.nanmax(surface) - np.nanmin(surface) > 3
    assert np.nanmax(surface) <= 7


def test_organoid_too_small_is_refused():
    with pytest.raises(UserInputError, match="at least 64 pixels and 2 slices"):
        organoid_stack(size=32)
    with pytest.raises(UserInputError, match="at least 64 pixels and 2 slices"):
        organoid_stack(slices=1)


def test_pair_is_sharp_near_in_the_first_and_far_in_the_second():
    near, far = np.asarray(pair_stack().array)
    assert near.shape == far.shape == (520, 520)
    assert near.dtype == np.uint8
    first, second = detail(np.stack([near, far]))
    assert (first > 2 * second).mean() > 0.05
    assert (second > 2 * first).mean() > 0.6


def test_organoid_comes_back_as_it_was_drawn(tmp_path: Path, small_organoid: np.ndarray):
    path = tmp_path / "organoid.ome.tif"
    assert write_sample("organoid", path) == [path]
    with open_stack(path) as stack:
        for channel in range(2):
            np.testing.assert_array_equal(
                stack.read(0, channel, range(3), slice(0, 96), slice(0, 96)), small_organoid[channel]
            )
        assert [channel.name for channel in stack.channels] == ["DAPI", "membrane"]
        assert [channel.color for channel in stack.channels] == ["0099FF", "FF33CC"]
        assert (stack.z.step_um, stack.y.step_um, stack.x.step_um) == (4.0, 0.325, 0.325)
    assert [each.name for each in tmp_path.iterdir()] == ["organoid.ome.tif"]


def test_pair_comes_back_as_it_was_drawn(tmp_path: Path):
    folder = tmp_path / "pair"
    paths = write_sample("pair", folder)
    assert [path.name for path in paths] == ["1_near.png", "2_far.png"]
    assert sorted(folder.iterdir()) == paths
    for source in (folder, paths):
        with open_stack(source) as stack:
            pixels = stack.read(0, 0, range(2), slice(0, 520), slice(0, 520))
        np.testing.assert_array_equal(pixels, np.asarray(pair_stack().array))


@pytest.fixture
def small_plate(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    stacks = [organoid_stack(size=64, slices=2, seed=seed) for seed in range(8)]
    monkeypatch.setattr(plate, "plate_stacks", lambda: stacks)
    return [np.asarray(stack.array) for stack in stacks]


def test_plate_comes_back_as_it_was_drawn_and_both_validators_take_it(tmp_path: Path, small_plate: list[np.ndarray]):
    import ome_zarr_models
    import yaozarrs

    path = tmp_path / "plate.ome.zarr"
    assert write_sample("plate", path) == [path]
    yaozarrs.validate_zarr_store(str(path))
    assert ome_zarr_models.open_ome_zarr(str(path)).ome_zarr_version == "0.5"
    plate = open_plate(path)
    units = list(plate.fields())
    assert [(unit.well, unit.field) for unit in units] == [
        (well, field) for well in ("B2", "B3", "C2", "C3") for field in ("0", "1")
    ]
    for unit, drawn in zip(units, small_plate, strict=True):
        with open_field(unit) as stack:
            read = [stack.read(0, channel, range(2), slice(0, 64), slice(0, 64)) for channel in range(2)]
            np.testing.assert_array_equal(read, drawn)
            assert (stack.z.step_um, stack.y.step_um, stack.x.step_um) == (4.0, 0.325, 0.325)
    assert [(channel.name, channel.color) for channel in plate.imaging.channels] == [
        ("DAPI", "0099FF"),
        ("membrane", "FF33CC"),
    ]
    assert (plate.rows, plate.columns) == (3, 4)
    assert [each.name for each in tmp_path.iterdir()] == ["plate.ome.zarr"]


@pytest.mark.usefixtures("small_plate")
def test_equal_plates_are_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_sample("plate", tmp_path / f"{name}.ome.zarr")
    one, other = (
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr")
    )
    assert one == other


def test_plate_fields_are_drawn_from_seeds_of_their_own():
    first, *others = (np.asarray(stack.array) for stack in plate.plate_stacks())
    assert first.nbytes * (1 + len(others)) < 4 << 20
    assert all((first != other).mean() > 0.5 for other in others)


def test_unknown_sample_is_refused(tmp_path: Path):
    with pytest.raises(UserInputError, match="no sample 'plates'; expected one of organoid, pair, plate"):
        write_sample("plates", tmp_path / "x")


def test_organoid_that_exists_is_replaced_only_on_request(tmp_path: Path, small_organoid: np.ndarray):
    path = tmp_path / "organoid.ome.tif"
    path.write_bytes(b"mine")
    with pytest.raises(UserInputError, match="exists already"):
        write_sample("organoid", path)
    assert path.read_bytes() == b"mine"
    write_sample("organoid", path, overwrite=True)
    with open_stack(path) as stack:
        assert stack.shape == (1, *small_organoid.shape)


def test_pair_that_exists_is_replaced_only_on_request_and_nothing_else_is_touched(tmp_path: Path):
    (tmp_path / "1_near.png").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserInputError, match="exists already"):
        write_sample("pair", tmp_path)
    assert (tmp_path / "1_near.png").read_bytes() == b"mine"
    write_sample("pair", tmp_path, overwrite=True)
    assert (tmp_path / "1_near.png").read_bytes() != b"mine"
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["organoid", "pair", "plate"])
def test_missing_folder_is_refused(tmp_path: Path, name: str):
    files = {"organoid": "sample.ome.tif", "pair": "sample", "plate": "sample.ome.zarr"}
    with pytest.raises(UserInputError, match="does not exist"):
        write_sample(name, tmp_path / "missing" / files[name])
    assert not list(tmp_path.iterdir())


def test_names_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(UserInputError, match=r"ends in \.ome\.tif"):
        write_sample("organoid", tmp_path / "organoid.jpg")
    with pytest.raises(UserInputError, match="is a folder"):
        write_sample("organoid", tmp_path)
    with pytest.raises(UserInputError, match=r"ends in \.ome\.zarr"):
        write_sample("plate", tmp_path / "plate")
    with pytest.raises(UserInputError, match="expected a folder"):
        write_sample("pair", tmp_path / "pair.png")
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserInputError, match="expected a folder"):
        write_sample("pair", tmp_path / "taken")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_: np.ndarray) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(write.imagecodecs, "png_encode", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sample("pair", tmp_path / "pair")
    assert not list(tmp_path.iterdir())
