"""One length is one length, whoever names its unit; what is no scale is none; what is stated and not used is said."""

import re

import numpy as np
import pytest
import tifffile
from yaozarrs import v05

from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.tiff.tags import is_for_print
from hybridfusion_core.io.units import ngff_unit, ome_symbol, ome_time_unit, ome_unit
from hybridfusion_core.stack import UNITS_UM, Axis

# UnitsLength of the OME schema 2016-06, in metres.
OME_METRES = {
    "Ym": 1e24, "Zm": 1e21, "Em": 1e18, "Pm": 1e15, "Tm": 1e12, "Gm": 1e9, "Mm": 1e6, "km": 1e3, "hm": 1e2,
    "dam": 10.0, "m": 1.0, "dm": 0.1, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12, "fm": 1e-15,
    "am": 1e-18, "zm": 1e-21, "ym": 1e-24, "Å": 1e-10, "ua": 1.495978707e11, "ly": 9.4607304725808e15,
    "pc": 3.0856775814913673e16, "thou": 2.54e-5, "li": 0.0254 / 12, "in": 0.0254, "ft": 0.3048, "yd": 0.9144,
    "mi": 1609.344, "pt": 0.0254 / 72,
}  # fmt: skip
PLANES = np.ones((3, 6, 8), "uint16")


def ome(folder, pixels, more=""):
    text = (
        "<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'><Image ID='Image:0'>"
        "<Pixels ID='Pixels:0' DimensionOrder='XYZCT' Type='uint16' SizeX='8' SizeY='6' SizeZ='3' SizeC='1' SizeT='1' "
        f"{pixels}><Channel ID='Channel:0:0' SamplesPerPixel='1'/><TiffData/>{more}</Pixels></Image></OME>"
    )
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, PLANES, description=text.encode(), metadata=None, photometric="minisblack")
    return path


@pytest.mark.parametrize("symbol", OME_METRES)
def test_every_length_of_ome_xml_is_known(tmp_path, symbol):
    stated = 2e-6 / OME_METRES[symbol]
    sizes = " ".join(f"PhysicalSize{axis}='{stated!r}' PhysicalSize{axis}Unit='{symbol}'" for axis in "XZ")
    with open_stack(ome(tmp_path, sizes)) as stack:
        assert stack.x.step_um == pytest.approx(2.0, rel=1e-9)
        assert stack.z.step_um == pytest.approx(2.0, rel=1e-9)
        assert stack.warnings == ()


def test_positions_of_slices_know_the_same_lengths(tmp_path):
    planes = "".join(
        f"<Plane TheZ='{z}' TheC='0' TheT='0' PositionZ='{(0, 1, 4)[z] * 1e-5}' PositionZUnit='dm'/>" for z in range(3)
    )
    with open_stack(ome(tmp_path, "", planes)) as stack:
        assert stack.z_um == pytest.approx([0.0, 1.0, 4.0])


@pytest.mark.parametrize("unit", UNITS_UM)
def test_every_length_is_valid_in_ngff_and_can_be_written_in_ome_xml(unit):
    v05.SpaceAxis(name="x", unit=unit)
    assert ngff_unit(unit) == unit
    name, factor = ome_unit(ome_symbol(unit))
    assert (name, factor) == (unit, 1.0)


def test_capitals_tell_units_of_ome_xml_apart():
    assert ome_unit("Mm")[0] == "megameter"
    assert ome_unit("mm")[0] == "millimeter"
    assert ome_time_unit("ms") == "millisecond"
    assert ome_time_unit("Ms") is None
    assert ngff_unit("MM") == "millimeter"  # typed by somebody


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        ("PhysicalSizeX='0,3' PhysicalSizeY='0,3'", r"PhysicalSizeX is '0,3'.*decimal comma"),
        ("PhysicalSizeZ='wide'", r"PhysicalSizeZ is 'wide'.*not a number"),
        ("PhysicalSizeX='3' PhysicalSizeXUnit='cubit'", r"PhysicalSizeXUnit is 'cubit'"),
    ],
)
def test_a_size_that_is_stated_and_not_understood_is_said(tmp_path, pixels, said):
    with open_stack(ome(tmp_path, pixels)) as stack:
        assert stack.x.unit is None
        assert any(re.search(said, each) for each in stack.warnings)


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_a_unit_that_says_there_is_no_scale_is_none(tmp_path, unit):
    with open_stack(ome(tmp_path, f"PhysicalSizeX='1' PhysicalSizeXUnit='{unit}'")) as stack:
        assert stack.x.unit is None
        assert stack.warnings == ()


def imagej(folder, planes=PLANES, resolution=(1 / 0.3, 1 / 0.3), **metadata):
    path = folder / "a.tif"
    tifffile.imwrite(path, planes, imagej=True, resolution=resolution, metadata={"axes": "ZYX", **metadata})
    return path


@pytest.mark.parametrize(
    ("metadata", "sizes"),
    [
        ({"unit": "micron", "zunit": "nm", "spacing": 2000.0}, (2.0, 0.3, 0.3)),
        ({"unit": "micron", "zunit": "mm", "spacing": 0.002}, (2.0, 0.3, 0.3)),
        ({"unit": "micron", "yunit": "nm", "spacing": 2.0}, (2.0, 0.0003, 0.3)),
        ({"unit": "\\u00B5m", "spacing": -2.0}, (2.0, 0.3, 0.3)),
        ({"unit": "pixel", "spacing": 2.0}, (None, None, None)),
        ({"unit": "pixel", "zunit": "micron", "spacing": 2.0}, (2.0, None, None)),
    ],
)
def test_imagej_has_a_unit_for_each_axis(tmp_path, metadata, sizes):
    with open_stack(imagej(tmp_path, **metadata)) as stack:
        found = [axis.step_um for axis in (stack.z, stack.y, stack.x)]
        assert found == [None if size is None else pytest.approx(size, rel=1e-5) for size in sizes]
        assert stack.warnings == ()


def test_a_distance_that_imagej_leaves_out_is_one_and_is_said(tmp_path):
    with open_stack(imagej(tmp_path, unit="micron")) as stack:
        assert stack.z.step_um == 1.0
        assert "leaves out when it is 1" in stack.warnings[0]
        assert "--z-step" in stack.warnings[0]
    with open_stack(imagej(tmp_path)) as stack:
        assert stack.z.step_um is None
        assert stack.warnings == ()


@pytest.mark.parametrize("unit", ["inch", "inches"])
def test_imagej_inches_of_a_printer_are_no_pixel_size(tmp_path, unit):
    with open_stack(imagej(tmp_path, resolution=(300, 300), unit=unit, spacing=1.0)) as stack:
        assert stack.x.unit is None
        assert stack.z.unit is None  # an inch between slices is none of the stage
    with open_stack(imagej(tmp_path, resolution=(300, 300), unit=unit, zunit="micron", spacing=1.0)) as stack:
        assert stack.z.step_um == 1.0


def test_sizes_that_no_microscope_has_are_said(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 3e-7})
    with open_stack(tmp_path / "a.ome.tif") as stack:
        assert "pixel size of a is 3e-07 µm" in stack.warnings[-1]
    with open_stack(tmp_path / "a.ome.tif", pixel_size_um=0.3) as stack:
        assert stack.x.step_um == 0.3


@pytest.mark.parametrize(("z", "x", "fits"), [(2.0, 0.3, True), (2000.0, 0.3, False), (0.002, 0.3, False)])
def test_a_distance_between_slices_in_a_wrong_unit_is_told_by_the_pixels(tmp_path, z, x, fits):
    with open_stack(imagej(tmp_path, unit="micron", spacing=z), pixel_size_um=x) as stack:
        assert [warning for warning in stack.warnings if "fits no microscope" in warning] == list(
            stack.warnings[: not fits]
        )


@pytest.mark.parametrize("per_cm", [28.3465, 28.35, 28, 10, 118.11, 118, 37.795, 1, 472, 94.49])
def test_resolutions_for_print_are_none_per_centimetre_either(tmp_path, per_cm):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES, resolution=(per_cm, per_cm), resolutionunit=3, metadata=None, photometric=0)
    with open_stack(path, axes="ZYX") as stack:
        assert stack.x.unit is None
        assert stack.y.unit is None


@pytest.mark.parametrize("per_inch", [72, 72.009, 300, 299.999, 254, 1, 1200])
def test_resolutions_for_print_are_rounded(per_inch):
    assert is_for_print(Axis(1 / per_inch, "inch"))


@pytest.mark.parametrize("size", [0.065, 0.3, 0.65, 1.3, 5.0])
def test_sizes_of_pixels_on_a_microscope_are_none_of_a_printer(size):
    assert not is_for_print(Axis(size / 25_400, "inch"))
    assert not is_for_print(Axis(size / 10_000, "centimeter"))
