"""Patterns say what names mean, and messages propose patterns that work."""

import shutil
from pathlib import Path

import numpy as np
import plate_makers as make
import pytest
import tifffile
from plate_makers import numbers

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.acquired import with_acquired_times
from hybridfusion_core.plates.field_stack import defects_of, open_field
from hybridfusion_core.plates.layouts.proposed_pattern import proposed_pattern
from hybridfusion_core.plates.listing import list_folder
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.select import Selection, select


@pytest.mark.parametrize(
    ("names", "pattern", "wells"),
    [
        # Keyence, CV1000 and ScanR number wells; others call them as they like.
        (["XY{well:02}_Z{z:03}.tif", (1, 2, 10)], "XY{well}_Z{z}.tif", ["W1", "W2", "W10"]),
        (["W{well:05}--Z{z}.tif", (7, 30)], "W{well}--Z{z}.tif", ["W7", "W30"]),
        (["{well}_z{z}.tif", ("control", "drug-A")], "{well}_z{z}.tif", ["Wcontrol", "Wdrug-A"]),
        (["{well}_z{z}.tif", ("B02", "B03")], "{well}_z{z}.tif", ["B02", "B03"]),
        # Leica counts rows and columns from 0, and needs many *.
        (
            ["image--L0--S00--U{well:02}--V00--J08--E00--Z{z}.tif", (0, 1)],
            "image--L*--S*--U{column}--V{row}--J*--E*--Z{z}.tif",
            ["A01", "A02"],
        ),
    ],
)
def test_wells_may_be_numbers_and_names(tmp_path: Path, names: list, pattern: str, wells: list[str]) -> None:
    template, found = names
    for index, well in enumerate(found):
        for z in (1, 2):
            make.write_plane(tmp_path / template.format(well=well, z=z), 10 * index + z)
    plate = open_plate(tmp_path, pattern=pattern)
    assert [(each.well, numbers(each)) for each in plate.fields()] == [
        (well, [[10 * index + 1, 10 * index + 2]]) for index, well in enumerate(wells)
    ]
    chosen = select(plate, Selection(wells=wells[-1].removeprefix("W")))
    assert [each.well for each in chosen] == [wells[-1]]
    if not wells[0].startswith("W"):
        return
    assert (plate.rows, plate.columns) == (1, len(wells))


def test_zeros_that_were_taken_for_the_first_row_are_said(tmp_path: Path) -> None:
    for row in (0, 1):
        for z in (1, 2):
            make.write_plane(tmp_path / f"r{row}_c3_z{z}.tif", row)
    plate = open_plate(tmp_path, pattern="r{row}_c{column}_z{z}.tif")
    assert [well.name for well in plate.wells] == ["A03", "B03"]
    assert any("rows in the names are counted from 0" in warning for warning in plate.warnings)


def test_files_that_a_pattern_does_not_fit_are_said(tmp_path: Path) -> None:
    for name in ("B02_z1.tif", "B02_z2.tif", "overview.tif"):
        make.write_plane(tmp_path / name, 1)
    assert (
        "1 image files do not fit the pattern, left out: overview.tif."
        in open_plate(tmp_path, pattern="{well}_z{z}.tif").warnings
    )


def test_a_channel_without_z_is_a_stack_in_a_file_of_its_own(tmp_path: Path) -> None:
    for channel, name in enumerate(("DAPI", "GFP")):
        for time in (0, 1):
            pixels = 100 * channel + 10 * time + np.arange(3)[:, None, None] + np.zeros((3, *make.SHAPE), int)
            tifffile.imwrite(
                tmp_path / f"B02_{name}_t{time}.ome.tif", pixels.astype("uint16"), ome=True, metadata={"axes": "ZYX"}
            )
    plate = open_plate(tmp_path, pattern="{well}_{channel}_t{time}.ome.tif")
    assert [channel.name for channel in plate.imaging.channels] == ["DAPI", "GFP"]
    assert [numbers(each) for each in plate.fields()] == [
        [[0, 1, 2], [100, 101, 102]],
        [[10, 11, 12], [110, 111, 112]],
    ]
    with open_field(next(plate.fields()), channels=["GFP"]) as stack:
        assert [channel.name for channel in stack.channels] == ["GFP"]
        np.testing.assert_array_equal(stack.read(0, 0, [2, 0], slice(0, 2), slice(0, 2))[:, 0, 0], [102, 100])
    (tmp_path / "B02_GFP_t1.ome.tif").unlink()
    # No field has it at that time: it was not acquired; a channel that another field has is missing.
    plate = open_plate(tmp_path, pattern="{well}_{channel}_t{time}.ome.tif")
    assert "was not taken here" in defects_of(list(plate.fields())[1], (0, 1))[0].message
    late = list(with_acquired_times(plate, None).fields())[1]
    assert numbers(late) == [[10, 11, 12], [0, 0, 0]]
    with open_field(late) as stack:
        assert stack.warnings == ("'GFP' was not acquired at this time point and reads as zeros.",)
    decided = with_acquired_times(plate, None, "GFP")
    assert ([each.t for each in decided.fields()], len(decided.warnings)) == ([0], 1)
    shutil.copy(tmp_path / "B02_GFP_t0.ome.tif", tmp_path / "B03_GFP_t1.ome.tif")
    late = list(open_plate(tmp_path, pattern="{well}_{channel}_t{time}.ome.tif").fields())[1]
    assert "No file of channel 'GFP'" in late.frame.defects[0].message


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["A - 01(fld 1 wv UV - DAPI z 1)x.tif", "A - 02(fld 2 wv UV - DAPI z 2)x.tif"], True),
        (["p_r01_c02_z1.png", "p_r02_c02_z2.png"], "p_r{row}_c{column}_z{z}.png"),
        (["well1_z1.png", "well2_z2.png"], "well{well}_z{z}.png"),
        (["image--U00--V01--Z0.tif", "image--U01--V01--Z1.tif"], "image--U{column}--V01--Z{z}.tif"),
        (["a_1.png", "a_2.png"], None),
        ([], None),
    ],
)
def test_a_proposed_pattern_fits_the_names_it_was_made_of(
    tmp_path: Path, names: list[str], expected: str | bool | None
) -> None:
    for name in names:
        make.write_plane(tmp_path / name, 1) if name.endswith("tif") else (tmp_path / name).write_text("")
    proposed = proposed_pattern(list_folder(tmp_path))
    if expected is True:
        assert proposed is not None
        assert len(list(open_plate(tmp_path, pattern=proposed).fields())) == 2
    elif expected is not None and "V01" in str(expected):
        assert proposed is None or "{row}" in proposed
    else:
        assert proposed == expected


def test_names_of_a_vendor_with_the_well_in_another_part_are_a_question(tmp_path: Path) -> None:
    for well in ("B02", "B03"):
        for z in (1, 2):
            make.write_plane(tmp_path / f"ZStep_{z}" / f"{well}_D14_s1_w1.tif", z)
    with pytest.raises(UserInputError, match=r"All names say well D14, .*'B02' in 'ZStep_1/B02_D14_s1_w1\.tif'"):
        open_plate(tmp_path)
    plate = open_plate(tmp_path, pattern="ZStep_{z}/{well}_D14_s{field}_w{channel}.tif")
    assert [well.name for well in plate.wells] == ["B02", "B03"]
