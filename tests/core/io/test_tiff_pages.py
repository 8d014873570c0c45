"""Pages that are no planes, and OME-XML that is almost OME-XML: nothing is lost in silence."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack

PIXELS = np.random.default_rng(0).integers(1, 4000, (3, 16, 20)).astype("uint16")
NESTED = "<Image ID='Image:7'><Pixels ID='Pixels:7' SizeX='1' SizeY='1' SizeZ='9' SizeC='1' SizeT='1'/></Image>"


def text(data: str = "<TiffData/>", *, sizes: str = "SizeZ='3' SizeC='1'", channel: str = "", more: str = "") -> str:
    return (
        "<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'><Image ID='Image:0'>"
        f"<Pixels ID='Pixels:0' DimensionOrder='XYCZT' Type='uint16' SizeX='20' SizeY='16' {sizes} SizeT='1' "
        f"PhysicalSizeX='0.3' PhysicalSizeY='0.3' PhysicalSizeZ='2'><Channel ID='Channel:0:0' {channel}/>{data}"
        f"</Pixels></Image>{more}</OME>"
    )


def write(path: Path, description: str, pages: list[np.ndarray], **options) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for index, page in enumerate(pages):
            about = {"description": description.encode()} if index == 0 else {}
            reduced = {"subfiletype": 1} if page.shape != pages[0].shape else {}
            writer.write(page, metadata=None, **({"photometric": "minisblack"} | options), **about, **reduced)
    return path


def pixels_of(stack) -> np.ndarray:
    _, c, z, y, x = stack.shape
    return np.stack([stack.read(0, each, range(z), slice(0, y), slice(0, x)) for each in range(c)])


NAMED = "".join(f"<TiffData IFD='{z}' FirstZ='{z}' PlaneCount='1'/>" for z in range(3))


@pytest.mark.parametrize(
    ("data", "extra"),
    [("<TiffData/>", PIXELS[0, ::2, ::2]), (NAMED, PIXELS[0, ::2, ::2]), (NAMED, PIXELS[0] // 2)],
    ids=["thumbnail, planes in order", "thumbnail, planes named", "a page of full size that nobody names"],
)
def test_a_page_that_is_no_plane_is_left_out_and_said(tmp_path, data, extra):
    path = write(tmp_path / "a.ome.tif", text(data), [*PIXELS, extra])
    with open_stack(path) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)
        assert stack.z.step_um == 2.0
        assert "1 of 4 pages of the file are no planes by its OME-XML" in stack.warnings[0]


def test_a_thumbnail_that_stands_first_is_left_out(tmp_path):
    named = "".join(f"<TiffData IFD='{z + 1}' FirstZ='{z}' PlaneCount='1'/>" for z in range(3))
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            PIXELS[0, ::2, ::2],
            description=text(named).encode(),
            metadata=None,
            subfiletype=1,
            photometric="minisblack",
        )
        for page in PIXELS:
            writer.write(page, metadata=None, photometric="minisblack")
    with open_stack(path) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)


def test_a_thumbnail_among_the_planes_is_never_read_as_one(tmp_path):
    named = "".join(f"<TiffData IFD='{z}' FirstZ='{z}' PlaneCount='1'/>" for z in range(3))
    path = write(tmp_path / "a.ome.tif", text(named), [PIXELS[0], PIXELS[0, ::2, ::2], PIXELS[1], PIXELS[2]])
    with pytest.raises(StoredDataError, match="the page of plane 1 is 8 × 10, others are 16 × 20"):
        open_stack(path)


def test_a_plane_that_is_left_over_is_a_contradiction(tmp_path):
    path = write(tmp_path / "a.ome.tif", text(), [*PIXELS, PIXELS[0]])
    with pytest.raises(StoredDataError, match="describes 3 planes, the file has 4 pages"):
        open_stack(path)


def test_thumbnails_of_plain_tiff_are_no_images(tmp_path):
    path = write(tmp_path / "a.tif", "", [*PIXELS, PIXELS[0, ::2, ::2]])
    with open_stack(path, axes="ZYX") as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)


def test_slices_may_hold_a_thumbnail(tmp_path):
    for index, page in enumerate(PIXELS):
        write(tmp_path / f"{index}.tif", "", [page, page[::2, ::2]])
    with open_stack(tmp_path) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)


def test_samples_of_a_pixel_may_be_left_out(tmp_path):
    colours = np.random.default_rng(1).integers(0, 255, (3, 16, 20, 3)).astype("uint8")
    sizes = text(sizes="SizeZ='3' SizeC='3'").replace("uint16", "uint8")
    path = write(tmp_path / "a.ome.tif", sizes, list(colours), photometric="rgb")
    with open_stack(path) as stack:
        assert stack.rgb
        np.testing.assert_array_equal(np.moveaxis(pixels_of(stack), 0, -1), colours)


def test_images_in_annotations_are_no_images_of_the_file(tmp_path):
    annotation = f"<XMLAnnotation ID='A:0'><Value><OME>{NESTED}</OME></Value></XMLAnnotation>"
    more = f"<StructuredAnnotations>{annotation}</StructuredAnnotations>"
    path = write(tmp_path / "a.ome.tif", text(more=more), list(PIXELS))
    with open_stack(path) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)


@pytest.mark.parametrize("rest", ["\x01", "\x00\x00 ", "junk behind the end of it", "\r\n\x1a"])
def test_what_stands_behind_the_end_of_ome_xml_is_left_out_and_said(tmp_path, rest):
    path = write(tmp_path / "a.ome.tif", text() + rest, list(PIXELS))
    with open_stack(path) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)
        assert stack.z.step_um == 2.0
        assert not rest.strip("\x00 ") or "behind the end of the OME-XML" in stack.warnings[0]


@pytest.mark.parametrize("keep", [100, 300, len(text()) - 3])
def test_ome_xml_that_is_cut_off_is_named_and_can_be_done_without(tmp_path, keep):
    path = write(tmp_path / "a.ome.tif", text()[:keep], list(PIXELS))
    with pytest.raises(StoredDataError, match=r"the OME-XML is not well-formed.*--axes ZYX"):
        open_stack(path)
    with open_stack(path, axes="ZYX") as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)
        assert stack.z.step_um is None
        assert re.search("OME-XML is not well-formed.*left out, with its scale", stack.warnings[0])


def test_entities_are_refused_even_with_axes(tmp_path):
    hostile = text().replace("<OME ", "<!DOCTYPE OME [<!ENTITY a 'b'>]><OME ")[:-3]
    path = write(tmp_path / "a.ome.tif", hostile, list(PIXELS))
    with pytest.raises(StoredDataError, match="DOCTYPE or ENTITY"):
        open_stack(path, axes="ZYX")


@pytest.mark.parametrize("spelling", [str.upper, lambda name: unicodedata.normalize("NFD", name)])
def test_parts_are_found_however_their_names_are_spelt(tmp_path, spelling):
    names = [f"Zelle_ä_z{z}.ome.tif" for z in range(3)]
    data = "".join(
        f"<TiffData FirstZ='{z}' IFD='0' PlaneCount='1'><UUID FileName='{name}'>urn:uuid:0000000{z}-0000-0000-0000-"
        "000000000000</UUID></TiffData>"
        for z, name in enumerate(names)
    )
    for z, name in enumerate(names):
        own = text(data).replace("<OME ", f"<OME UUID='urn:uuid:0000000{z}-0000-0000-0000-000000000000' ")
        write(tmp_path / spelling(name), own, [PIXELS[z]])
    with open_stack(tmp_path / spelling(names[0])) as stack:
        np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)
        assert len(stack.source) == 3
    (tmp_path / spelling(names[2])).unlink()
    with pytest.raises(StoredDataError, match=r"z2\.ome\.tif' is missing"):
        open_stack(tmp_path / spelling(names[0]))


def palette(*, ramp: bool) -> np.ndarray:
    table = np.zeros((3, 256), "uint16")
    table[1] = np.arange(256) * 257
    if not ramp:
        table[0] = np.random.default_rng(0).integers(0, 2**16, 256)
    return table


@pytest.mark.parametrize("ramp", [True, False])
def test_the_values_of_a_palette_are_intensities_in_a_file_and_in_a_folder(tmp_path, ramp):
    pixels = (PIXELS // 16).astype("uint8")
    (tmp_path / "slices").mkdir()
    for index, page in enumerate(pixels):
        tifffile.imwrite(
            tmp_path / f"slices/{index}.tif", page, photometric="palette", colormap=palette(ramp=ramp), metadata=None
        )
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="palette", colormap=palette(ramp=ramp), metadata={"axes": "ZYX"}
    )
    for path in (tmp_path / "slices", tmp_path / "a.tif"):
        with open_stack(path, axes="ZYX") as stack:
            np.testing.assert_array_equal(pixels_of(stack)[0], pixels)
            assert bool(stack.warnings) != ramp
            assert ramp or "table of colours" in stack.warnings[0]


def test_a_folder_says_what_one_file_of_the_same_pages_says(tmp_path):
    options = {"resolution": (1 / 0.3, 1 / 0.3)}
    (tmp_path / "imagej").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "ome").mkdir()
    for index, page in enumerate(PIXELS):
        tifffile.imwrite(tmp_path / f"imagej/{index}.tif", page, imagej=True, metadata={"unit": "micron"}, **options)
        micrometres = {"resolution": (1e4 / 0.3, 1e4 / 0.3), "resolutionunit": 3}
        tifffile.imwrite(tmp_path / f"plain/{index}.tif", page, photometric="miniswhite", metadata=None, **micrometres)
        single = text(sizes="SizeZ='1' SizeC='1'", channel="Name='DAPI'")
        write(tmp_path / f"ome/{index}.ome.tif", single, [page])
    for name in ("imagej", "plain", "ome"):
        with open_stack(tmp_path / name) as stack:
            np.testing.assert_array_equal(pixels_of(stack)[0], PIXELS)
            assert stack.x.step_um == pytest.approx(0.3, rel=1e-4)
            assert stack.y.step_um == pytest.approx(0.3, rel=1e-4)
            assert ("0 is white" in "".join(stack.warnings)) == (name == "plain")
            assert stack.channels[0].name == ("DAPI" if name == "ome" else "0")
            assert stack.z.step_um == (2.0 if name == "ome" else None)


def test_slices_of_two_scales_have_none_and_say_so(tmp_path):
    for index, size in enumerate((0.3, 0.3, 0.6)):
        options = {"resolution": (1 / size, 1 / size), "metadata": {"unit": "micron"}}
        tifffile.imwrite(tmp_path / f"{index}.tif", PIXELS[index], imagej=True, **options)
    with open_stack(tmp_path) as stack:
        assert stack.x.unit is None
        assert re.search(r"0\.tif states pixels of 0\.3 × 0\.3 micrometer, 2\.tif of 0\.6", stack.warnings[0])


def test_four_inks_are_no_red_green_blue(tmp_path):
    inks = np.ones((16, 20, 4), "uint8")
    for index in range(2):
        tifffile.imwrite(tmp_path / f"{index}.tif", inks, photometric="separated", metadata=None)
    with pytest.raises(UserInputError, match="no red, green and blue"):
        open_stack(tmp_path)
