"""The names of slices say their order; names that say more than one thing are a question."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.slice_names import doubt, in_natural_order


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ["z1.tif", "z2.tif", "z10.tif"],
        ["focus_-2.0.tif", "focus_-1.0.tif", "focus_0.0.tif", "focus_1.0.tif"],
        ["z-10.tif", "z-2.tif", "z0.tif", "z3.tif"],
        ["z−2.tif", "z−1.tif", "z0.tif"],
        ["z-1.tif", "z+0.tif", "z+1.tif"],
        ["0.25.tif", "0.5.tif", "0.75.tif", "1.0.tif", "1.25.tif"],
        ["pos_-0,5.png", "pos_-0,25.png", "pos_0.png", "pos_0,25.png"],
        ["z_1e-05.tif", "z_1.5e-05.tif", "z_2e-05.tif"],
        ["img-1.tif", "img-2.tif", "img-10.tif"],  # a hyphen in all names is no sign
        ["run1.9.tif", "run1.10.tif", "run1.11.tif"],  # 1.10 is no decimal number beside 1.9
        ["2024-01-05_z1.tif", "2024-01-05_z2.tif"],
        ["image (1).jpg", "image (2).jpg", "image (10).jpg"],
        ["img_000_-1.0um.tif", "img_001_-0.5um.tif", "img_002_0.0um.tif", "img_003_0.5um.tif"],
        ["shot_10-01-05.jpg", "shot_10-01-09.jpg", "shot_10-02-03.jpg", "shot_10-02-30.jpg"],  # by the clock
        ["far.png", "near.png"],
        ["a.png", "max.png", "z1.png", "z2.png"],  # too few that are alike
        ["a.ome.tif", "b.ome.tif", "c.ome.tif"],
    ],
)
def test_slices_of_one_stack_are_sorted_by_their_numbers(names: list[str]) -> None:
    expected = paths(*names)
    assert in_natural_order(expected[::-1]) == expected
    assert in_natural_order([*expected[1:], expected[0]]) == expected
    assert doubt(expected) is None


@pytest.mark.parametrize(
    ("names", "said", "example"),
    [
        (
            [f"img_channel00{c}_z00{z}.tif" for c in "01" for z in "01234"],
            r"'channel' \(000, 001\)",
            "img_channel000_z*",
        ),
        ([f"s_z0{z}_ch0{c}.tif" for c in "01" for z in "01234"], r"'ch' \(00, 01\)", "s_z*_ch00"),
        ([f"s_z{z}_c{c}.tif" for c in "01" for z in "01234" if z + c != "41"], r"'z' \(0 to 4\), 'c'", "s_z*_c0"),
        ([f"t{t}_c{c}_z{z}.tif" for t in "01" for c in "01" for z in "012"], "3 numbers vary", "t0_c0_z*"),
        ([f"{c}_z{z}.tif" for c in ("DAPI", "Cy5") for z in "0123"], "2 kinds with the same numbers", "DAPI_z*"),
        ([*(f"z{z}.tif" for z in range(5)), "MAX_z.tif"], "1 of the names are unlike the others: 'MAX_z'", "z*"),
        ([f"i_{i:03}_w{i % 2}.tif" for i in range(8)], r"'w' \(0, 1\)", "i_*_w0"),
        ([f"i_{i:03}_w{i // 4}.tif" for i in range(8)], r"'w' \(0, 1\)", "i_*_w0"),
        (["z0.tif", "z0_1.tif", "z1.tif", "z1_1.tif"], "2 kinds", "z?"),
    ],
)
def test_channels_times_and_positions_in_one_folder_are_a_question(
    tmp_path: Path, names: list[str], said: str, example: str
) -> None:
    for name in names:
        tifffile.imwrite(tmp_path / name, np.ones((4, 5), "uint8"))
    with pytest.raises(UserInputError, match=f"not the slices of one stack.*{said}.*expected one number"):
        open_stack(tmp_path)
    found = doubt([tmp_path / name for name in names])
    assert found is not None
    assert found.example == f"{example}.tif"
    # The way out that the message shows leads out.
    chosen = sorted(tmp_path.glob(found.example))
    assert 2 <= len(chosen) < len(names)
    with open_stack(chosen) as stack:
        assert stack.shape[2] == len(chosen)
        assert stack.warnings == ()
    with open_stack([tmp_path / name for name in names]) as stack:  # a list was chosen by somebody
        assert "read as slices of one stack, though" in stack.warnings[-1]


def test_the_order_of_a_shell_is_told_where_it_is_not_that_of_the_numbers(tmp_path: Path) -> None:
    for index in (1, 2, 10):
        tifffile.imwrite(tmp_path / f"img_{index}.tif", np.full((4, 5), index, "uint8"))
    given = [tmp_path / f"img_{index}.tif" for index in (1, 10, 2)]
    with open_stack(given) as stack:
        assert np.asarray(stack.array)[:, 0, 0].tolist() == [1, 10, 2]
        assert "in the order given, img_1.tif, img_10.tif, img_2.tif" in stack.warnings[0]
    for order in ((1, 2, 10), (10, 2, 1), (2, 10, 1)):  # natural, or chosen
        with open_stack([tmp_path / f"img_{index}.tif" for index in order]) as stack:
            assert stack.warnings == ()


@pytest.mark.parametrize(
    ("numbers", "jump"),
    [
        ((0, 1, 2, 4, 5), "from s2.tif to s4.tif"),
        ((0, 5, 10, 20), "from s10.tif to s20.tif"),
        ((0, 1, 2, 3), ""),
        ((0, 2, 4), ""),
        ((3, 17, 29, 58), ""),
    ],
)
def test_a_slice_that_is_missing_by_its_number_is_said(tmp_path: Path, numbers: tuple[int, ...], jump: str) -> None:
    for number in numbers:
        tifffile.imwrite(tmp_path / f"s{number}.tif", np.full((4, 5), number, "uint8"))
    with open_stack(tmp_path) as stack:
        assert [jump in warning for warning in stack.warnings] == [True] * bool(jump)


def test_a_folder_of_folders_names_one_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserInputError, match=r"holds no images.*such as a in it: each of the 2 on its own"):
        open_stack(tmp_path)
