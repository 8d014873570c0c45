"""Broken and hostile files end in a message that says what was found, expected, and what to do."""

import struct

import numpy as np
import pytest
import tifffile

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.io.open import open_stack

PIXELS = np.random.default_rng(0).integers(0, 60_000, (4, 32, 32)).astype("uint16")


def ome_tiff(path, text, array=PIXELS):
    tifffile.imwrite(path, array, description=text.encode(), metadata=None, photometric="minisblack")
    return path


def ome_text(sizes="SizeX='32' SizeY='32' SizeZ='4' SizeC='1' SizeT='1'", head="", data="<TiffData/>", more=""):
    return (
        f"<?xml version='1.0'?>{head}<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'>{more}"
        f"<Image ID='Image:0'><Pixels ID='Pixels:0' DimensionOrder='XYZCT' Type='uint16' {sizes}>"
        f"<Channel ID='Channel:0:0' SamplesPerPixel='1'/>{data}</Pixels></Image></OME>"
    )


def read_whole(path, **options):
    with open_stack(path, **options) as stack:
        t, c, z, y, x = stack.shape
        return [stack.read(i, j, range(z), slice(0, y), slice(0, x)) for i in range(t) for j in range(c)]


def test_the_frame_of_these_tests_opens(tmp_path):
    np.testing.assert_array_equal(read_whole(ome_tiff(tmp_path / "a.ome.tif", ome_text()))[0], PIXELS)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.tif", "is empty"),
        (b"", "a.png", "is empty"),
        (b"this is text", "a.tif", "no readable TIFF"),
        (b"this is text", "a.png", "no PNG, JPEG or TIFF"),
        (b"II*\0", "a.tif", "no readable TIFF"),
        (b"II*\0\x08\0\0\0", "a.tif", "no readable TIFF|no pages|no image"),
        (b"\x89PNG\r\n\x1a\n", "a.png", "cannot be read as an image"),
        (b"\xff\xd8\xff\xe0", "a.jpg", "cannot be read as an image"),
        (b"x", "a.czi", "no readable Zeiss CZI file"),
        (b"x", "a.sld", "has the suffix '.sld'"),
    ],
)
def test_files_that_are_no_images(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HybridFusionError, match=message):
        open_stack(tmp_path / name)


@pytest.mark.parametrize("path", ["missing.tif", "nul\0.tif", "x" * 300 + ".tif", "loop"])
def test_paths_that_lead_nowhere(tmp_path, path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserInputError, match=r"does not exist|cannot be looked up"):
        open_stack(str(tmp_path / "x").removesuffix("x") + path)


def test_no_input_and_nonsense_lengths(tmp_path):
    with pytest.raises(UserInputError, match="No input was named"):
        open_stack([])
    for value in (0, -1.0, float("nan")):
        with pytest.raises(UserInputError, match="expected a length in µm above 0"):
            open_stack(tmp_path, z_step_um=value)


@pytest.mark.parametrize("kind", ["ome", "imagej", "plain", "zstd"])
def test_files_cut_short_are_never_read_as_less(tmp_path, kind):
    options = {
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "plain": {"metadata": None, "photometric": "minisblack"},
        "zstd": {"metadata": None, "photometric": "minisblack", "compression": "zstd"},
    }[kind]
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, PIXELS, **options)
    content = whole.read_bytes()
    axes = {"axes": "ZYX"} if kind in ("plain", "zstd") else {}
    np.testing.assert_array_equal(read_whole(whole, **axes)[0], PIXELS)
    for length in [*range(8, len(content), max(1, len(content) // 40)), len(content) - 1]:
        (tmp_path / "cut.tif").write_bytes(content[:length])
        try:
            read = read_whole(tmp_path / "cut.tif", **axes)
        except HybridFusionError:
            continue
        # The last bytes may hold tags that nobody needs.
        np.testing.assert_array_equal(read[0], PIXELS)


def test_damaged_pixels_are_no_zeros(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PIXELS, compression="zstd", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        offset = file.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = bytes(8)
    path.write_bytes(content)
    with open_stack(path) as stack, pytest.raises(StoredDataError, match=r"the pixels at .*Z=2:3.* cannot be read"):
        stack.read(0, 0, [2], slice(0, 32), slice(0, 32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ome_text(head="<!DOCTYPE OME [<!ENTITY a 'b'>]>"), "declares a DOCTYPE or ENTITY"),
        (ome_text(head="<!doctype OME SYSTEM 'file:///etc/passwd'>"), "declares a DOCTYPE or ENTITY"),
        (ome_text()[:-8] + "</OME>", "not well-formed"),
        (ome_text("SizeX='32' SizeY='32' SizeZ='9' SizeC='1' SizeT='1'"), "describes 9 planes, the file has 4 pages"),
        (ome_text("SizeX='32' SizeY='32' SizeZ='3' SizeC='1' SizeT='1'"), "describes 3 planes"),
        (ome_text("SizeX='33' SizeY='32' SizeZ='4' SizeC='1' SizeT='1'"), "describes 1 images"),
        (ome_text("SizeX='32' SizeY='32' SizeZ='0' SizeC='1' SizeT='1'"), "describes 0 planes"),
        (ome_text("SizeX='a' SizeY='32' SizeZ='4' SizeC='1' SizeT='1'"), "no readable TIFF"),
        (ome_text("SizeX='32' SizeY='32' SizeZ='99999999999' SizeC='1' SizeT='1'"), "describes 99999999999 planes"),
        (ome_text(more="<BinaryOnly MetadataFile='m.ome.tif' UUID='urn:uuid:0'/>"), "Open that one instead"),
        (ome_text(more="<BinaryOnly MetadataFile='m.companion.ome' UUID='urn:uuid:0'/>"), "cannot be opened either"),
        (ome_text(data="<TiffData IFD='7'/>"), r"describes 1 images|is missing"),
        (
            ome_text(data="<TiffData IFD='0'><UUID FileName='../../secret.tif'>urn:uuid:1</UUID></TiffData>"),
            "expected a file in the same folder",
        ),
        (
            ome_text(data="<TiffData IFD='0'><UUID FileName='/etc/passwd'>urn:uuid:1</UUID></TiffData>"),
            "expected a file in the same folder",
        ),
    ],
)
def test_hostile_ome_xml(tmp_path, text, message):
    with pytest.raises(HybridFusionError, match=message):
        open_stack(ome_tiff(tmp_path / "a.ome.tif", text))


@pytest.mark.parametrize("value", ["nan", "-1", "0", "inf", "text", ""])
def test_nonsense_sizes_in_ome_xml_count_as_unknown(tmp_path, value):
    sizes = f"SizeX='32' SizeY='32' SizeZ='4' SizeC='1' SizeT='1' PhysicalSizeX='{value}' PhysicalSizeZ='{value}'"
    with open_stack(ome_tiff(tmp_path / "a.ome.tif", ome_text(sizes))) as stack:
        assert stack.x.step_um is None
        assert stack.z_um is None


@pytest.mark.parametrize("dtype", ["bool", "complex64", "int8", "int64"])
def test_pixels_that_are_no_intensities(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.astype(dtype), metadata=None, photometric="minisblack")
    with pytest.raises(UserInputError, match=rf"pixels are {dtype}"):
        open_stack(tmp_path / "a.tif", axes="ZYX")


def patch_tag(path, code, value):
    """Overwrite the value of a tag of the first page in place."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags[code]
        offset = tag.valueoffset
        size = {3: "H", 4: "I"}[int(tag.dtype)]
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{size}", content, offset, value)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("code", "value"), [(256, 10**9), (257, 10**9), (258, 77), (259, 60_000), (277, 9), (273, 2**31)]
)
def test_headers_that_promise_nonsense(tmp_path, code, value):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[0], metadata=None)
    patch_tag(path, code, value)
    with pytest.raises(HybridFusionError, match=r"a\.tif"):
        read_whole(path)


def test_pages_that_loop(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        first, link = file.pages[0].offset, file.pages.next_page_offset
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, link, first)
    path.write_bytes(content)
    with pytest.raises(StoredDataError, match="another page is announced"):
        open_stack(path, axes="ZYX")
