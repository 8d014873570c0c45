"""What a TIFF says about itself arrives in the stack, and reading by region gives its pixels."""

from hashlib import sha256

import numpy as np
import pytest
import tifffile
from image_makers import multi_file

from hybridfusion_core import fuse_to
from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.tiff.writer import write_stack
from hybridfusion_core.stack import Axis, Channel

UM = "micrometer"


def pixels(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def read_all(stack):
    t, c, z, y, x = stack.shape
    return np.stack([[stack.read(i, j, range(z), slice(0, y), slice(0, x)) for j in range(c)] for i in range(t)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_written_stack_reads_back_whole(tmp_path, dtype):
    array = pixels((2, 3, 4, 33, 47), dtype)
    channels = (
        Channel("DAPI", "0000FF", transmitted=False),
        Channel("µ <GFP> & co", "00FF00"),
        Channel("BF", "FFFFFF", transmitted=True),
    )
    steps = {"t": Axis(30.0, "second"), "z": Axis(0.5, UM), "y": Axis(0.2, UM), "x": Axis(0.3, UM)}
    write_stack(tmp_path / "s.ome.tif", array, channels=channels, **steps)
    with open_stack(tmp_path / "s.ome.tif") as stack:
        assert stack.shape == array.shape
        assert stack.dtype == array.dtype
        assert stack.channels == channels
        assert {letter: getattr(stack, letter) for letter in "tzyx"} == steps
        assert stack.warnings == ()
        np.testing.assert_array_equal(read_all(stack), array)
        np.testing.assert_array_equal(
            stack.read(1, 2, [3, 0], slice(5, 20), slice(40, 47)), array[1, 2, [3, 0], 5:20, 40:]
        )


def test_equal_stacks_give_equal_bytes(tmp_path):
    array = pixels((1, 2, 3, 20, 20))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_stack(tmp_path / name / "s.ome.tif", array, provenance={"seed": 1})
    assert (tmp_path / "one/s.ome.tif").read_bytes() == (tmp_path / "two/s.ome.tif").read_bytes()


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([10.0, 10.5, 11.0, 11.5], None),
        ([10.0, 10.5, 11.2, 11.4], (10.0, 10.5, 11.2, 11.4)),
        ([11.5, 11.0, 10.5, 10.0], (11.5, 11.0, 10.5, 10.0)),
        ([10.0, 10.0, 10.0, 10.0], None),
    ],
)
def test_only_irregular_or_descending_positions_are_kept(tmp_path, positions, expected):
    write_stack(tmp_path / "s.ome.tif", pixels((1, 2, 4, 8, 8)), z=Axis(0.5, UM), z_positions_um=positions)
    with open_stack(tmp_path / "s.ome.tif") as stack:
        assert stack.z_positions_um == expected
        assert stack.z.step == pytest.approx(0.5, rel=0.1)


def test_positions_that_go_back_and_forth_are_reported_and_not_used(tmp_path):
    write_stack(tmp_path / "s.ome.tif", pixels((1, 1, 3, 8, 8)), z=Axis(0.5, UM), z_positions_um=[1.0, 3.0, 2.0])
    with open_stack(tmp_path / "s.ome.tif") as stack:
        assert stack.z_positions_um is None
        assert "back and forth" in stack.warnings[0]


def test_pyramids_are_read_at_full_resolution(tmp_path):
    array = pixels((3, 64, 64))
    with tifffile.TiffWriter(tmp_path / "p.ome.tif", ome=True) as writer:
        writer.write(array, subifds=1, tile=(16, 16), metadata={"axes": "ZYX"})
        writer.write(array[:, ::2, ::2], subfiletype=1, tile=(16, 16), metadata=None)
    with open_stack(tmp_path / "p.ome.tif") as stack:
        np.testing.assert_array_equal(read_all(stack)[0, 0], array)


def test_imagej_hyperstack_keeps_steps_and_colours(tmp_path):
    array = pixels((2, 3, 2, 10, 12))
    ramps = [np.outer([1, 0, 0], range(256)).astype("uint8"), np.outer([0, 1, 1], range(256)).astype("uint8")]
    tifffile.imwrite(
        tmp_path / "ij.tif",
        array,
        imagej=True,
        resolution=(4, 5),
        metadata={
            "axes": "TZCYX",
            "spacing": -0.5,
            "unit": "micron",
            "finterval": 3.0,
            "mode": "composite",
            "LUTs": ramps,
            "Labels": [f"slice {index}" for index in range(12)],
        },
    )
    with open_stack(tmp_path / "ij.tif") as stack:
        assert stack.shape == (2, 2, 3, 10, 12)
        assert (stack.t, stack.z) == (Axis(3.0, "second"), Axis(0.5, UM))
        assert (stack.y, stack.x) == (Axis(0.2, UM), Axis(0.25, UM))
        assert stack.channels == (Channel("0", "FF0000"), Channel("1", "00FFFF"))
        np.testing.assert_array_equal(read_all(stack), array.swapaxes(1, 2))


@pytest.mark.parametrize("unit", ["um", "µm", "\\u00B5m", "micron"])
def test_imagej_spellings_of_micrometre(tmp_path, unit):
    description = f"ImageJ=1.53\nimages=2\nslices=2\nunit={unit}\nspacing=0.7\n"
    with tifffile.TiffWriter(tmp_path / "ij.tif") as writer:
        for index, plane in enumerate(pixels((2, 6, 6))):
            writer.write(plane, description=description.encode("latin-1") if index == 0 else None, metadata=None)
    with open_stack(tmp_path / "ij.tif") as stack:
        assert stack.shape == (1, 1, 2, 6, 6)
        assert stack.z == Axis(0.7, UM)


def test_plain_pages_may_be_anything_so_the_user_is_asked(tmp_path):
    array = pixels((5, 9, 11))
    tifffile.imwrite(tmp_path / "plain.tif", array, metadata=None, photometric="minisblack")
    with pytest.raises(UserInputError, match=r"slices \(Z\), time points \(T\).*--axes ZYX"):
        open_stack(tmp_path / "plain.tif")
    with pytest.raises(UserInputError, match=r"name 2"):
        open_stack(tmp_path / "plain.tif", axes="YX")
    with open_stack(tmp_path / "plain.tif", axes="tyx") as stack:
        assert stack.shape == (5, 1, 1, 9, 11)
    with open_stack(tmp_path / "plain.tif", axes="ZYX", z_step_um=2.0, pixel_size_um=0.1) as stack:
        np.testing.assert_array_equal(read_all(stack)[0, 0], array)
        assert (stack.z, stack.y, stack.x) == (Axis(2.0, UM), Axis(0.1, UM), Axis(0.1, UM))


@pytest.mark.parametrize(("resolution", "unit", "step"), [(25400, 2, 1.0), (10000, 3, 1.0), (300, 2, None)])
def test_plain_resolution_is_a_pixel_size_unless_it_is_for_print(tmp_path, resolution, unit, step):
    tifffile.imwrite(
        tmp_path / "r.tif", pixels((6, 6)), metadata=None, resolution=(resolution, resolution), resolutionunit=unit
    )
    with open_stack(tmp_path / "r.tif") as stack:
        assert stack.x.step_um == (None if step is None else pytest.approx(step))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour_becomes_three_named_channels_and_alpha_is_reported(tmp_path, planar, samples):
    array = pixels((2, 8, 9, samples), "uint8")
    stored = array if planar == "contig" else np.moveaxis(array, -1, 1)
    axes = "ZYXS" if planar == "contig" else "ZSYX"
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(
        tmp_path / "c.ome.tif", stored, photometric="rgb", planarconfig=planar, metadata={"axes": axes}, **extra
    )
    with open_stack(tmp_path / "c.ome.tif") as stack:
        assert stack.rgb
        assert [(each.name, each.color) for each in stack.channels] == [
            ("red", "FF0000"),
            ("green", "00FF00"),
            ("blue", "0000FF"),
        ]
        assert ("alpha" in "".join(stack.warnings)) == (samples == 4)
        np.testing.assert_array_equal(read_all(stack)[0], np.moveaxis(array[..., :3], -1, 0))


def test_three_slices_that_pass_for_colours_can_be_named(tmp_path):
    array = pixels((3, 8, 9))
    tifffile.imwrite(tmp_path / "three.tif", array, photometric="rgb", planarconfig="separate", metadata=None)
    with open_stack(tmp_path / "three.tif") as stack:
        assert "--axes ZYX" in stack.warnings[0]
    with open_stack(tmp_path / "three.tif", axes="ZYX") as stack:
        np.testing.assert_array_equal(read_all(stack)[0, 0], array)


def test_big_endian_pixels_arrive_in_native_order(tmp_path):
    array = pixels((2, 7, 7))
    tifffile.imwrite(tmp_path / "b.tif", array, byteorder=">", imagej=True, metadata={"axes": "ZYX"})
    with open_stack(tmp_path / "b.tif") as stack:
        assert stack.dtype.isnative
        np.testing.assert_array_equal(read_all(stack)[0, 0], array)


def test_one_of_several_images_is_chosen_by_index_or_name(tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.ome.tif", ome=True) as writer:
        writer.write(pixels((2, 8, 8)), metadata={"axes": "ZYX", "Name": "first"})
        writer.write(pixels((3, 9, 9)), metadata={"axes": "ZYX", "Name": "second", "PhysicalSizeZ": 2.0})
    with pytest.raises(UserInputError, match=r"holds 2 images.*'second'.*--series"):
        open_stack(tmp_path / "m.ome.tif")
    for series in (1, "1", "second"):
        with open_stack(tmp_path / "m.ome.tif", series=series) as stack:
            assert stack.shape == (1, 1, 3, 9, 9)
            assert stack.z == Axis(2.0, UM)
    with pytest.raises(UserInputError, match=r"no image 'third'"):
        open_stack(tmp_path / "m.ome.tif", series="third")


def test_images_without_names_are_listed_by_number_alone(tmp_path):
    for name, plane in (("a", (2, 8, 8)), ("b", (3, 9, 9))):
        tifffile.imwrite(tmp_path / "m.tif", pixels(plane), append=name == "b", metadata={}, photometric="minisblack")
    with pytest.raises(UserInputError, match=r"holds 2 images: 0 \(shape .*with --series N \(Python"):
        open_stack(tmp_path / "m.tif")


def test_a_file_that_ends_before_its_description_is_cut_short(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels((5, 9, 11)), metadata={"axes": "ZYX", "PhysicalSizeZ": 1.0})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoredDataError, match=r"cut short: its description"):
        open_stack(path)
    with open_stack(path, axes="ZYX") as stack:  # the pixels are all there
        np.testing.assert_array_equal(read_all(stack)[0, 0], pixels((5, 9, 11)))


def test_modality_comes_from_the_optics(tmp_path):
    channel = [
        {"ContrastMethod": "Phase"},
        {"ContrastMethod": "Fluorescence"},
        {"EmissionWavelength": 510.0},
        {"Name": "unknown"},
    ]
    tifffile.imwrite(tmp_path / "o.ome.tif", pixels((4, 2, 6, 6)), metadata={"axes": "CZYX", "Channel": channel})
    with open_stack(tmp_path / "o.ome.tif") as stack:
        assert [each.transmitted for each in stack.channels] == [True, False, False, None]


def test_parts_of_a_multi_file_image_are_read_together_or_not_at_all(tmp_path):
    multi_file(tmp_path)
    with open_stack(tmp_path / "a.ome.tif") as stack:
        assert read_all(stack)[0, 0, :, 0, 0].tolist() == [1, 2]
        assert stack.source == (str(tmp_path / "a.ome.tif"), str(tmp_path / "b.ome.tif"))
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(StoredDataError, match=r"'b\.ome\.tif' is missing"):
        open_stack(tmp_path / "a.ome.tif")


def test_companions_are_inputs_too(tmp_path):
    multi_file(tmp_path)
    before = (tmp_path / "b.ome.tif").read_bytes()
    for output in ("b.ome.tif", "b.png"):
        options = {"preview": tmp_path / "b.ome.tif"} if output == "b.png" else {}
        with pytest.raises(UserInputError, match=r"b\.ome\.tif.* is the input"):
            fuse_to(tmp_path / "a.ome.tif", tmp_path / output, method="max", overwrite=True, **options)
    assert (tmp_path / "b.ome.tif").read_bytes() == before
    spec = fuse_to(tmp_path / "a.ome.tif", tmp_path / "fused.ome.zarr", method="max", checksum=True)
    assert [(each["name"], each["sha256"]) for each in spec.provenance["input"]] == [
        (name, sha256((tmp_path / name).read_bytes()).hexdigest()) for name in ("a.ome.tif", "b.ome.tif")
    ]
