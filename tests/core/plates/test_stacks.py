"""Microscopes' own files and folders of stacks: every image, file or subfolder of slices is a field with a name."""

import numpy as np
import pytest
import tifffile
from native_makers import pixels, write_czi, write_lif, write_oif

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.native import formats
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate

for library in ("liffile", "pylibCZIrw", "oiffile"):
    pytest.importorskip(library, reason="needs the extra 'vendors'")


def fields(plate) -> list[tuple[str, str]]:
    return [(field.well, field.field) for field in plate.fields()]


def assert_holds(field, image: np.ndarray) -> None:
    """Compare a field's stack with C Z Y X."""
    with open_field(field) as stack:
        _, c, z, y, x = stack.shape
        read = [stack.read(0, at, range(z), slice(0, y), slice(0, x)) for at in range(c)]
        np.testing.assert_array_equal(read, image)


def imagej(path, image):
    tifffile.imwrite(path, image, imagej=True, metadata={"axes": "ZYX", "spacing": 0.5, "unit": "um"})


def test_the_scenes_of_one_file_are_fields_in_the_wells_that_it_states(tmp_path):
    scenes = [pixels((1, 2, 3, 20, 30), seed) for seed in range(3)]
    plate = open_plate(write_czi(tmp_path / "screen.czi", scenes, wells=("B02", "B02", "C10")))
    assert (plate.name, plate.warnings) == ("screen", ())
    assert fields(plate) == [("B02", "P1"), ("B02", "P2"), ("C10", "P3")]
    assert [channel.modality for channel in plate.imaging.channels] == ["widefield", "transmitted"]
    for field, scene in zip(plate.fields(), scenes, strict=True):
        assert_holds(field, scene[0])


def test_positions_are_no_wells_although_they_look_like_row_p(tmp_path):
    scenes = [pixels((1, 1, 2, 20, 30), seed) for seed in range(2)]
    plate = open_plate(write_czi(tmp_path / "day.czi", scenes, wells=("", "")))
    assert fields(plate) == [("A01", "P1"), ("A01", "P2")]
    assert "all are fields of one well" in plate.warnings[0]


def test_files_of_one_well_each_have_it_in_their_names(tmp_path):
    for well, count in (("B02", 2), ("B03", 1)):
        images = {f"R{index}": pixels((1, 2, 1, 10, 12), index) for index in range(count)}
        write_lif(tmp_path / f"H9_{well}.lif", images)
    assert fields(open_plate(tmp_path)) == [("B02", "1"), ("B02", "2"), ("B03", "1")]


def test_time_points_of_a_file_are_those_of_its_field(tmp_path):
    image = pixels((3, 2, 1, 10, 12))
    plate = open_plate(write_lif(tmp_path / "a.lif", {"one": image}))
    assert [field.t for field in plate.fields()] == [0, 1, 2]
    for field in plate.fields():
        assert_holds(field, image[field.t].swapaxes(0, 1))


def test_a_folder_of_stacks_of_any_kind_needs_no_wells(tmp_path):
    images = {name: pixels((4, 20, 30), seed) for seed, name in enumerate(("three", "two", "sub/one", "slices"))}
    (tmp_path / "sub").mkdir()
    (tmp_path / "slices").mkdir()
    imagej(tmp_path / "two.tif", images["two"])
    imagej(tmp_path / "sub" / "one.tif", images["sub/one"])
    tifffile.imwrite(tmp_path / "three.ome.tif", images["three"], metadata={"axes": "ZYX"})
    for z, plane in enumerate(images["slices"]):
        tifffile.imwrite(tmp_path / "slices" / f"s_{z}.tif", plane)
    write_oif(tmp_path / "four.oif", pixels((1, 2, 10, 12)))  # its folder of planes is no field
    plate = open_plate(tmp_path)
    assert sorted(fields(plate)) == [("A01", name) for name in ("four", "slices", "sub/one", "three", "two")]
    for field in plate.fields():
        if field.field in images:
            assert_holds(field, images[field.field][np.newaxis])


def test_names_that_leave_a_choice_of_wells_are_names_of_fields(tmp_path):
    for name in ("H9_D14", "H1_D15"):
        imagej(tmp_path / f"{name}.tif", pixels((3, 10, 12)))
    plate = open_plate(tmp_path)
    assert fields(plate) == [("A01", "H1_D15"), ("A01", "H9_D14")]
    assert "more than one part that could be the well" in plate.warnings[0]


def test_what_plain_tiffs_do_not_say_is_asked_and_can_be_said(tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels((3, 10, 12)), photometric="minisblack")
    with pytest.raises(UserInputError, match=r"None of 2 stacks .* can be opened(.|\n)*--axes"):
        open_plate(tmp_path)
    plate = open_plate(tmp_path, axes="ZYX")
    assert [field.frame.slices for field in plate.fields()] == [(3,), (3,)]
    assert_holds(next(plate.fields()), pixels((1, 3, 10, 12)))


def test_a_damaged_file_fails_its_own_field_and_no_other(tmp_path):
    write_lif(tmp_path / "good.lif", {"one": pixels((1, 2, 1, 10, 12))})
    (tmp_path / "bad.lif").write_bytes(b"nothing")
    found = {field.field: field.frame.defects for field in open_plate(tmp_path).fields()}
    assert found["good"] == ()
    assert "no readable Leica LIF" in found["bad"][0].message


def test_without_the_library_the_folder_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.lif").write_bytes(b"anything")
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    with pytest.raises(UserInputError, match=r"napari-hybridfusion\[vendors\]"):
        open_plate(tmp_path)


def test_a_result_may_stand_beside_the_file(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"one": pixels((1, 2, 1, 10, 12))})
    assert open_plate(path).inputs[0] == str(path)
