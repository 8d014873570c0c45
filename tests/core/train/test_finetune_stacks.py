"""What a fine-tuning reads, refuses and estimates before it trains."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import textured_stack
from finetune_makers import request_for, write_stack, write_stacks

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.scenes.camera import Camera
from hybridfusion_core.scenes.lab import Lab
from hybridfusion_core.scenes.samples.write import write_sample
from hybridfusion_core.scenes.scene import make_scene
from hybridfusion_core.train.finetune import crops
from hybridfusion_core.train.finetune.crops import field_readers
from hybridfusion_core.train.finetune.imaging_setup import laboratory
from hybridfusion_core.train.finetune.request import make_finetune_request
from hybridfusion_core.train.finetune.run import finetune
from hybridfusion_core.train.finetune.sources import find_sources
from hybridfusion_core.train.finetune.split import survey


def found(*paths: Path, **more: object):
    return find_sources(
        request_for(paths[0], paths[0].parent / "m.safetensors", "x", inputs=tuple(map(str, paths)), **more)
    )


def test_a_plate_is_split_by_wells(tmp_path: Path) -> None:
    write_sample("plate", tmp_path / "plate.ome.zarr", overwrite=False)
    sources = found(tmp_path / "plate.ome.zarr")
    wells = {each.group.rpartition(" ")[2] for each in sources.stacks}
    assert len(wells) == 4
    assert len(sources.stacks) == 8
    surveyed = survey(sources, seed=0)
    held_out = {crop.group for crop in surveyed.held_out}
    assert len(held_out) == 1
    assert not held_out & set(surveyed.training)
    assert len(surveyed.training) == 3
    assert all(len(readers) == 2 * len(sources.stacks[0].channels) for readers in surveyed.training.values())


def test_files_folders_of_slices_and_plain_tiffs_are_stacks(tmp_path: Path) -> None:
    from skimage.io import imsave

    folder = write_stacks(tmp_path / "ome", 2)
    plain = tmp_path / "plain"
    plain.mkdir()
    for seed in range(3):
        write_stack(plain / f"{seed}.tif", textured_stack((3, 40, 40), seed=seed), pixel=None)
    slices = tmp_path / "slices"
    slices.mkdir()
    for number, plane in enumerate(textured_stack((4, 40, 40), "uint8")):
        imsave(slices / f"{number}.png", plane)
    single = write_stack(tmp_path / "single.tif", textured_stack((2, 40, 40)), pixel=None)
    sources = found(folder, plain, slices, single, preset="organoid")
    assert sorted(each.shape[2] for each in sources.stacks) == [2, 3, 3, 3, 4, 5, 5]
    assert len({each.group for each in sources.stacks}) == 7


def test_what_cannot_be_learnt_from_is_refused_before_training(tmp_path: Path) -> None:
    folder = write_stacks(tmp_path / "one", 1)
    with pytest.raises(UserInputError, match=r"Only .*s0.* to learn from; expected two.*Add another stack"):
        found(folder)
    flat = tmp_path / "flat"
    flat.mkdir()
    for seed in range(2):
        write_stack(flat / f"{seed}.ome.tif", textured_stack((6, 40, 40), seed=seed), axes="TYX")
    with pytest.raises(UserInputError, match=r"0.ome.tif has one slice, .*Z 1.*expected two slices.*--axes"):
        found(flat)
    assert len(found(flat / "0.ome.tif", flat / "1.ome.tif", axes="ZYX").stacks) == 2
    mixed = write_stacks(tmp_path / "mixed", 2)
    write_stack(mixed / "other.ome.tif", textured_stack((3, 40, 40)), pixel=0.65)
    with pytest.raises(
        UserInputError, match=r"mixed: .* 0.325 µm and other.* 0.65 µm; expected.*Fine-tune a model for"
    ):
        found(mixed)
    assert {each.pixel_um for each in found(mixed, pixel_size_um=0.325).stacks} == {0.325}
    with pytest.raises(UserInputError, match=r"is not there|no such|does not exist|nowhere"):
        found(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("light", "preset", "other"), [("Phase", "organoid", "transmitted"), ("Fluorescence", "transmitted", "organoid")]
)
def test_a_preset_for_another_light_is_refused(tmp_path: Path, light: str, preset: str, other: str) -> None:
    lit = {"Channel": {"ContrastMethod": [light], "Name": ["x"]}}
    for seed in range(2):
        write_stack(tmp_path / f"{seed}.ome.tif", textured_stack((4, 40, 40), seed=seed)[None], axes="CZYX", **lit)
    with pytest.raises(UserInputError, match=rf"all stacks are; expected .* Give --preset {other}"):
        found(tmp_path, preset=preset)
    assert found(tmp_path).transmitted == (light == "Phase")


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (np.zeros((4, 64, 64), np.uint16), r"one count in every pixel .*: 0\); expected images.*export them again"),
        (np.full((4, 64, 64), 65535, np.uint16), r"one count in every pixel .*65535"),
        (None, r"0 of 3 stacks .* show texture in focus; expected two at least.*Add stacks"),
        (np.full((4, 64, 64), np.nan, np.float32), r"No stack could be read; expected two.*NaN or infinite pixels"),
    ],
)
def test_black_empty_and_broken_stacks_are_no_data(tmp_path: Path, plane: np.ndarray | None, message: str) -> None:
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(300, 5, (4, 64, 64)).astype(np.uint16)
        write_stack(tmp_path / f"{seed}.ome.tif", noise if plane is None else plane)
    with pytest.raises(UserInputError, match=message):
        survey(found(tmp_path), seed=0)


def test_an_empty_stack_among_others_is_told_and_never_held_out(tmp_path: Path) -> None:
    folder = write_stacks(tmp_path / "stacks", 3)
    write_stack(folder / "black.ome.tif", np.zeros((5, 64, 64), np.uint16))
    for seed in range(4):
        surveyed = survey(found(folder), seed)
        assert "black" not in "".join(crop.name for crop in surveyed.held_out)
        assert any("1 of 4 stacks" in each for each in surveyed.warnings)


def test_large_fields_are_read_in_part_with_the_statistics_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "SIDE", 48)
    monkeypatch.setattr(crops, "_BLOCK", 32)
    monkeypatch.setattr(crops, "DEEPEST", 6)
    counts = np.random.default_rng(0).normal(500, 5, (6, 160, 200)).astype(np.float32)
    counts[:, 96:, 120:] += textured_stack((6, 64, 80)).astype(np.float32)
    write_stack(tmp_path / "a.ome.tif", counts)
    write_stack(tmp_path / "b.ome.tif", counts)
    reader = field_readers(found(tmp_path).stacks[0])[0]
    taken = [reader.crop(np.random.default_rng(seed)) for seed in range(12)]
    assert {crop.counts.shape for crop in taken} == {(6, 48, 48)}
    assert np.mean([crop.content > 0.1 for crop in taken]) > 0.6  # one in four, were they cut anywhere
    monkeypatch.setattr(crops, "_BLOCKS", 1000)
    reader._statistics.clear()
    whole = field_statistics([counts])
    assert reader.crop(np.random.default_rng(0)).statistics.scale == pytest.approx(whole.scale, rel=0.02)


def test_noise_distances_and_aperture_are_those_of_the_laboratory(tmp_path: Path) -> None:
    lab = Lab(cameras=(Camera(200, 0.03),))
    for seed in range(4):
        scene = make_scene(6, 96, "clean", torch.Generator().manual_seed(seed), kind="volume", lab=lab)
        write_stack(tmp_path / f"{seed}.ome.tif", (scene.counts.numpy() * 3000 + 100).astype(np.float32), pixel=0.16)
    request = request_for(tmp_path, tmp_path.parent / "m.safetensors", "x")
    sources = find_sources(request)
    estimated = laboratory(request, sources, survey(sources, 0).looked_at)
    assert 100 < np.median([camera.photons for camera in estimated.cameras]) < 400
    assert 0.015 < np.median([camera.read for camera in estimated.cameras]) < 0.06
    assert (estimated.z_step, estimated.slices) == (2.0, 6)
    assert {scope.pixel for scope in estimated.microscopes} == {0.16}
    assert len({scope.na for scope in estimated.microscopes}) > 1  # nobody said which
    given = laboratory(request_for(tmp_path, Path("m.safetensors"), "x", na=1.3, wavelength_nm=600), sources, ())
    assert {(scope.na, scope.index, scope.wavelength) for scope in given.microscopes} == {(1.3, 1.518, 0.6)}


@pytest.mark.parametrize(("stated", "used"), [("0.8", {0.8}), ("90", {0.45, 0.75}), ("many", {0.45, 0.75})])
def test_the_aperture_that_ome_xml_states_is_used_if_a_lens_can_have_it(
    tmp_path: Path, stated: str, used: set[float]
) -> None:
    lens = f'<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="{stated}"/></Instrument><Image '
    for seed in range(2):
        path = write_stack(tmp_path / f"{seed}.ome.tif", textured_stack((4, 40, 40), seed=seed))
        text = tifffile.tiffcomment(path).replace("<Image ", lens, 1)
        text = text.replace("<Pixels ", '<ObjectiveSettings ID="Objective:0"/><Pixels ', 1)
        tifffile.tiffcomment(path, text.encode())
    request = request_for(tmp_path, tmp_path.parent / "m.safetensors", "x")
    lab = laboratory(request, find_sources(request), ())
    assert {scope.na for scope in lab.microscopes} == used


def test_an_aperture_without_pixels_means_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        write_stack(tmp_path / f"{seed}.tif", textured_stack((4, 40, 40), seed=seed), pixel=None)
    request = request_for(tmp_path, tmp_path.parent / "m.safetensors", "x", na=0.5)
    with pytest.raises(UserInputError, match=r"aperture is given as 0.5.*expected both or none.*--pixel-size"):
        laboratory(request, find_sources(request), ())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"output": "m.pt"}, r"'m.pt' has another suffix; expected a model"),
        ({"minutes": float("nan")}, r"--minutes is nan; expected 0.01 to .* minutes"),
        ({"minutes": -1}, r"--minutes is -1"),
        ({"na": 3}, r"--na is 3.*; expected 0.02 to 1.5"),
        ({"pixel_size_um": 0}, r"--pixel-size is 0"),
        ({"preset": "xray"}, r"preset: Input should be 'auto'"),
        ({"unknown": 1}, r"unknown"),
    ],
)
def test_impossible_requests_are_refused(option: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        make_finetune_request(**({"inputs": ("a",), "output": "m.safetensors"} | option))


def test_a_model_is_not_written_into_its_own_stacks(tmp_path: Path, tiny_model: str) -> None:
    folder = write_stacks(tmp_path / "stacks")
    with pytest.raises(UserInputError, match=r"is the input, or inside it"):
        finetune(request_for(folder, folder / "m.safetensors", tiny_model))
    assert {path.suffix for path in folder.iterdir()} == {".tif"}


def test_a_damaged_file_in_a_folder_is_told_and_the_others_are_used(tmp_path: Path) -> None:
    for folder, suffix, pixel in (("plain", ".tif", None), ("ome", ".ome.tif", 0.325)):
        place = tmp_path / folder
        place.mkdir()
        for seed in range(3):
            write_stack(place / f"{seed}{suffix}", textured_stack((3, 40, 40), seed=seed), pixel=pixel)
        (place / f"broken{suffix}").write_bytes(b"II*\0 but nothing else")
        sources = found(place)
        assert len(sources.stacks) == 3
        assert any("broken" in each for each in sources.warnings)
    with pytest.raises(ValueError, match=r"broken"):
        found(place, place / "broken.ome.tif")
