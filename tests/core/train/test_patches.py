from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import textured_stack

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.model.noise import field_statistics
from hybridfusion_core.train import patches
from hybridfusion_core.train.patches import draw_patches, load_unlabelled
from hybridfusion_core.train.recipe import Recipe, Unlabelled

CPU = torch.device("cpu")


def write(folder: Path, name: str, counts: np.ndarray, axes: str = "ZYX", **metadata: object) -> str:
    tifffile.imwrite(folder / name, counts, metadata={"axes": axes, **metadata}, photometric="minisblack")
    return name


def recipe_of(*names: str, weight: float = 0.5, **more: object) -> Recipe:
    return Recipe(
        "r", seed=5, slices=32, size=32, depth=(2, 4), unlabelled=Unlabelled("organoid", weight, names), **more
    )


@pytest.fixture
def two(tmp_path: Path) -> Recipe:
    deep = write(tmp_path, "deep.ome.tif", textured_stack((9, 60, 70)))
    return recipe_of(deep, write(tmp_path, "flat.ome.tif", textured_stack((3, 40, 40), seed=1)))


def test_a_step_always_draws_the_same_patches_and_other_steps_or_seeds_others(two: Recipe, tmp_path: Path) -> None:
    stacks, reread = load_unlabelled(two, tmp_path), load_unlabelled(two, tmp_path)
    one, again = draw_patches(stacks, two, 5, CPU), draw_patches(reread, two, 5, CPU)
    assert torch.equal(one.guide, again.guide)
    assert torch.equal(one.noise, again.noise)
    for other in (draw_patches(stacks, two, 6, CPU), draw_patches(stacks, replace(two, seed=6), 5, CPU)):
        assert one.guide.shape != other.guide.shape or not torch.equal(one.guide, other.guide)


def test_patches_are_as_many_and_as_large_as_a_step_asks_for(two: Recipe, tmp_path: Path) -> None:
    stacks = load_unlabelled(two, tmp_path)
    depths = set()
    for step in range(12):
        guide = draw_patches(stacks, two, step, CPU).guide
        assert guide.shape[2:] == (32, 32)
        assert 4 <= guide.shape[0] * guide.shape[1] <= 12  # 8, rounded to whole patches, and as deep as `flat` allows
        depths.add(guide.shape[1])
    assert depths <= {2, 3, 4}
    assert len(depths) > 1


def test_a_patch_is_cut_from_one_field_at_one_step_with_the_statistics_of_the_whole(tmp_path: Path) -> None:
    shape = (2, 2, 7, 40, 40)  # T C Z Y X; every pixel has its own value
    counts = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    recipe = recipe_of(write(tmp_path, "many.ome.tif", counts, axes="TCZYX"))
    stacks = load_unlabelled(recipe, tmp_path)
    fields = [field for fields in counts.reshape(4, 1, 7, 40, 40) for field in fields]
    guides = [field_statistics([field]).guide([field]) for field in fields]
    seen = set()
    for step in range(10):
        for patch in draw_patches(stacks, recipe, step, CPU).guide.numpy():
            (index,) = [number for number, guide in enumerate(guides) if np.isin(patch, guide).all()]
            places = [{z for z in range(7) if np.isin(plane, guides[index][z]).all()} for plane in patch]
            numbers = [place.pop() for place in places]
            assert len(set(np.diff(numbers))) == 1
            assert numbers[0] < numbers[1]
            seen.add((index, numbers[1] - numbers[0]))
    assert {index for index, _ in seen} == {0, 1, 2, 3}
    assert {step for _, step in seen} >= {1, 2, 3}


def test_stacks_are_drawn_evenly_whatever_their_size(two: Recipe, tmp_path: Path) -> None:
    stacks = load_unlabelled(two, tmp_path)
    noises = [stack.fields[0].noise for stack in stacks]
    drawn = torch.cat([draw_patches(stacks, two, step, CPU).noise for step in range(60)])
    share = float((drawn == torch.tensor(noises[0])).float().mean())
    assert 0.4 < share < 0.6


def test_patches_are_sought_where_there_is_something_to_see(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).normal(500, 5, (3, 128, 128)).astype(np.float32)
    counts[:, :48, :48] += 10 * textured_stack((3, 48, 48)).astype(np.float32)
    recipe = recipe_of(write(tmp_path, "corner.ome.tif", counts))
    stacks = load_unlabelled(recipe, tmp_path)
    guides = torch.cat([draw_patches(stacks, recipe, step, CPU).guide[:, :2] for step in range(20)])
    assert (guides.std(dim=(1, 2, 3)) > 0.1).float().mean() > 0.6  # one in five, were they cut anywhere


@pytest.mark.parametrize("value", [0, 700])
def test_an_empty_stack_is_tried_a_bounded_number_of_times(
    value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(write(tmp_path, "empty.ome.tif", np.full((4, 40, 40), value, np.uint16)))
    tried, has_structure = [], patches.has_structure

    def spy(guide: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        tried.append(1)
        return has_structure(guide, noise)

    monkeypatch.setattr(patches, "has_structure", spy)
    guide = draw_patches(load_unlabelled(recipe, tmp_path), recipe, 0, CPU).guide
    assert not guide.any()
    assert len(tried) == 8 * len(guide)


def test_a_plane_smaller_than_a_patch_is_reflected(tmp_path: Path) -> None:
    counts = textured_stack((4, 20, 50))
    recipe = recipe_of(write(tmp_path, "narrow.ome.tif", counts))
    guide = draw_patches(load_unlabelled(recipe, tmp_path), recipe, 0, CPU).guide
    assert guide.shape[2:] == (32, 32)
    assert np.isin(guide.numpy(), field_statistics([counts]).guide([counts])).all()


def test_a_colour_stack_is_one_field_and_transmitted_channels_are_none(tmp_path: Path) -> None:
    from skimage.io import imsave

    (tmp_path / "colour").mkdir()
    for number, plane in enumerate(textured_stack((2, 40, 40), "uint8")):
        imsave(tmp_path / "colour" / f"{number}.png", np.stack([plane, plane // 2, plane // 3], axis=-1))
    counts = textured_stack((6, 40, 40)).reshape(2, 3, 40, 40)
    lit = {"Channel": {"Name": ["DAPI", "BF"], "ContrastMethod": ["Fluorescence", "Brightfield"]}}
    mixed = write(tmp_path, "mixed.ome.tif", counts, axes="CZYX", **lit)
    colour, fluorescent = load_unlabelled(recipe_of("colour", mixed), tmp_path)
    assert len(colour.fields) == len(fluorescent.fields) == 1
    np.testing.assert_array_equal(fluorescent.fields[0].guide, field_statistics([counts[0]]).guide([counts[0]]))
    alone = write(
        tmp_path, "alone.ome.tif", counts[1:], axes="CZYX", Channel={"ContrastMethod": ["Brightfield"], "Name": ["BF"]}
    )
    with pytest.raises(UserInputError, match=r"alone.* transmitted light alone; expected fluorescence.*Take it out"):
        load_unlabelled(recipe_of(alone), tmp_path)


def test_stacks_without_weight_are_not_read(tmp_path: Path) -> None:
    assert load_unlabelled(recipe_of("none.tif", weight=0), None) == ()
    with pytest.raises(
        UserInputError, match=r"gives them no weight; expected an \[unlabelled\] section.*leave --stacks"
    ):
        load_unlabelled(recipe_of("none.tif", weight=0), tmp_path)


def test_what_cannot_be_learnt_from_is_refused(two: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match=r"no folder was given; expected .* deep.ome.tif.*Give it with --stacks"):
        load_unlabelled(two, None)
    with pytest.raises(UserInputError, match=r"nowhere is no folder; expected .*Give it with --stacks"):
        load_unlabelled(two, tmp_path / "nowhere")
    with pytest.raises(UserInputError, match=r"holds no a.tif, b.tif; expected every stack .*Copy what is missing"):
        load_unlabelled(recipe_of("a.tif", "deep.ome.tif", "b.tif"), tmp_path)
    single = write(tmp_path, "single.ome.tif", textured_stack((1, 40, 40)))
    with pytest.raises(UserInputError, match=r"single.* has 1 slice.*; expected two slices or more.*Take it out"):
        load_unlabelled(recipe_of(single), tmp_path)
    holes = write(tmp_path, "holes.ome.tif", np.full((3, 40, 40), np.nan, np.float32))
    with pytest.raises(UserInputError, match=r"holes.* NaN or infinite pixels at t=0, c=0; expected numbers.*Repair"):
        load_unlabelled(recipe_of(holes), tmp_path)
    monkeypatch.setattr(patches, "_LARGEST", 9 * 60 * 70 * 4)
    with pytest.raises(UserInputError, match=r"With flat.* GiB of memory; expected at most .*Cut regions"):
        load_unlabelled(two, tmp_path)


@pytest.mark.parametrize("names", [("a/b.tif",), (r"a\b.tif",), ("..",), ("",), ("a.tif", "a.tif")])
def test_a_recipe_names_each_stack_once_and_no_folder(names: tuple[str, ...]) -> None:
    with pytest.raises(UserInputError, match=r"expected different file names without folders.*Give the folder"):
        recipe_of(*names)


def test_a_weight_needs_stacks() -> None:
    with pytest.raises(UserInputError, match=r"has weight 0.5 and no stacks; expected.*Name them"):
        recipe_of()
