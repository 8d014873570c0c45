"""Single image files are one stack: natural order in a folder, the given order in a list."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.picture_files import inspect
from hybridfusion_core.io.slice_files import PictureStack


def write_png(path, array):
    path.write_bytes(imagecodecs.png_encode(array))


def planes(count, shape=(5, 7), dtype="uint16"):
    return [np.full(shape, index + 1, dtype) for index in range(count)]


def test_folder_is_read_in_natural_order(tmp_path):
    for index in (1, 2, 10):
        write_png(tmp_path / f"z{index}.png", np.full((5, 7), index, "uint16"))
    write_png(tmp_path / ".hidden.png", np.zeros((1, 1), "uint8"))
    (tmp_path / "notes.txt").write_text("x")
    with open_stack(tmp_path) as stack:
        assert stack.axes == "ZYX"
        assert stack.dtype == np.uint16
        assert stack.read(0, 0, range(3), slice(0, 1), slice(0, 1)).ravel().tolist() == [1, 2, 10]
        assert "notes.txt" in stack.warnings[0]


def test_list_keeps_its_order(tmp_path):
    for name, plane in zip("ab", planes(2), strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", plane, byteorder=">")
    with open_stack([tmp_path / "b.tif", str(tmp_path / "a.tif")]) as stack:
        assert np.asarray(stack.array)[:, 0, 0].tolist() == [2, 1]
        assert stack.dtype.isnative


@pytest.mark.parametrize(
    ("kind", "samples"),
    [("jpg", 1), ("jpg", 3), *((kind, samples) for kind in ("png", "tif") for samples in (1, 3, 4))],
)
def test_grey_and_colour_of_every_format(tmp_path, kind, samples):
    array = np.full((6, 8, samples), 77, "uint8").squeeze()
    for name in "ab":
        path = tmp_path / f"{name}.{kind}"
        if kind == "tif":
            tifffile.imwrite(path, array, photometric="rgb" if samples > 1 else "minisblack", metadata=None)
        else:
            path.write_bytes(imagecodecs.png_encode(array) if kind == "png" else imagecodecs.jpeg8_encode(array))
    with open_stack(tmp_path) as stack:
        assert stack.shape == (1, 1 if samples == 1 else 3, 2, 6, 8)
        assert stack.rgb == (samples > 1)
        assert ("alpha" in "".join(stack.warnings)) == (samples == 4)
        assert abs(int(stack.read(0, 0, [1], slice(2, 4), slice(1, 8)).mean()) - 77) <= 1


def test_single_picture_is_a_stack_of_one(tmp_path):
    write_png(tmp_path / "one.png", planes(1)[0])
    with open_stack(tmp_path / "one.png") as stack:
        assert stack.shape == (1, 1, 1, 5, 7)


def test_regions_of_the_array_follow_numpy(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (3, 6, 8, 3)).astype("uint8")
    for index, plane in enumerate(array):
        write_png(tmp_path / f"{index}.png", plane)
    expected = np.moveaxis(array, -1, 1)
    with open_stack(tmp_path) as stack:
        for key in ((1, 2), np.s_[0:2, 1, 2:4], np.s_[..., 3], np.s_[-1], np.s_[2:2]):
            np.testing.assert_array_equal(stack.array[key], expected[key])


def test_pictures_are_decoded_once_while_they_fit_and_forgotten_when_not(tmp_path):
    for name, plane in zip("abc", planes(3), strict=True):
        write_png(tmp_path / f"{name}.png", plane)
    pictures = [inspect(tmp_path / f"{name}.png") for name in "abc"]
    array = PictureStack(pictures, cache_bytes=2 * 5 * 7 * 2)
    assert array[:, 0, 0].tolist() == [1, 2, 3]
    (tmp_path / "c.png").unlink()
    (tmp_path / "a.png").unlink()
    assert array[2, 0, 0] == 3
    with pytest.raises(StoredDataError, match=r"a\.png"):
        array[0, 0, 0]


@pytest.mark.parametrize("odd", [planes(1, (5, 8))[0], planes(1, dtype="uint8")[0], np.zeros((5, 7, 3), "uint16")])
def test_slices_that_differ_name_both_files(tmp_path, odd):
    write_png(tmp_path / "a.png", planes(1)[0])
    write_png(tmp_path / "b.png", odd)
    with pytest.raises(UserInputError, match=r"a\.png is 5 × 7 grey uint16, b\.png is"):
        open_stack(tmp_path)


def test_empty_and_mixed_folders_are_explained(tmp_path):
    with pytest.raises(UserInputError, match="holds no images"):
        open_stack(tmp_path)
    write_png(tmp_path / "a.png", planes(1)[0])
    tifffile.imwrite(tmp_path / "b.tif", planes(1)[0])
    with pytest.raises(UserInputError, match=r"mixes kinds.*a\.png"):
        open_stack(tmp_path)


@pytest.mark.parametrize("target", ["nowhere", "2.png", "/dev/null"])
def test_a_slice_whose_link_leads_nowhere_is_not_left_out(tmp_path, target):
    for index in (1, 3):
        write_png(tmp_path / f"{index}.png", planes(1)[0])
    (tmp_path / "2.png").symlink_to(target)
    with pytest.raises(UserInputError, match=r"2\.png .* leads nowhere, a pipe or a device; expected a file"):
        open_stack(tmp_path)


def test_pictures_without_intensities_are_refused(tmp_path):
    bits = bytearray(imagecodecs.png_encode(np.zeros((4, 4), "uint8")))
    for depth, kind, message in ((1, 0, "1 bit per sample"), (8, 3, "a palette")):
        bits[24:26] = bytes((depth, kind))
        (tmp_path / "p.png").write_bytes(bits)
        with pytest.raises(UserInputError, match=message):
            open_stack(tmp_path / "p.png")


def test_several_pages_are_no_slice(tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((5, 4, 4), "uint8"), photometric="minisblack")
    with pytest.raises(UserInputError, match="has 5 pages; expected one plane per file"):
        open_stack(tmp_path)


def test_stacks_in_a_list_are_refused(tmp_path):
    write_png(tmp_path / "a.png", planes(1)[0])
    with pytest.raises(UserInputError, match="stands among 2 inputs"):
        open_stack([tmp_path / "a.png", tmp_path])


def test_axes_that_slices_cannot_have_are_refused(tmp_path):
    write_png(tmp_path / "a.png", planes(1)[0])
    with pytest.raises(UserInputError, match="stacked along Z"):
        open_stack(tmp_path, axes="TYX")


def photograph(path, pixels, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(path, "JPEG", exif=exif, quality=95, subsampling=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_viewers_turn_them(tmp_path, orientation):
    y, x = np.mgrid[:24, :40]
    for name in "ab":
        photograph(tmp_path / f"{name}.jpg", (5 * y + 3 * x).astype("uint8"), orientation)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    with open_stack(tmp_path) as stack:
        assert stack.shape[3:] == shown.shape
        read = stack.read(0, 0, [0, 1], slice(0, shown.shape[0]), slice(0, shown.shape[1]))
        assert np.abs(read.astype(int) - shown).max() <= 2  # two decoders
        assert ("EXIF orientation" in "".join(stack.warnings)) == (orientation != 1)


def test_frames_that_a_camera_marks_by_chance_are_turned_alike(tmp_path):
    pixels = np.arange(24 * 40, dtype="uint8").reshape(24, 40)
    for name, orientation in zip("abc", (6, 8, 6), strict=True):
        photograph(tmp_path / f"{name}.jpg", pixels, orientation)
    with open_stack(tmp_path) as stack:
        assert "several EXIF orientations" in stack.warnings[0]
        read = stack.read(0, 0, [0, 1, 2], slice(0, 40), slice(0, 24))
        np.testing.assert_array_equal(read[0], read[1])


def test_damaged_exif_turns_nothing(tmp_path):
    pixels = np.full((8, 10), 77, "uint8")
    for name in "ab":
        photograph(tmp_path / f"{name}.jpg", pixels, 6)
        content = (tmp_path / f"{name}.jpg").read_bytes()
        at = content.index(b"Exif\0\0")
        (tmp_path / f"{name}.jpg").write_bytes(content[: at + 6] + b"\xff" * 8 + content[at + 14 :])
    with open_stack(tmp_path) as stack:
        assert stack.shape[3:] == (8, 10)
