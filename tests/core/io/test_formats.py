"""Every layout and codec that a microscope may write arrives with the same pixels, and none is read as less."""

import struct
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hostile_files import write_store

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.stack import SUPPORTED_DTYPES

PIXELS = np.random.default_rng(0).integers(0, 4000, (3, 70, 90)).astype("uint16")
REGIONS = [np.s_[:, :], np.s_[10:30, 5:25], np.s_[69:70, 0:90], np.s_[3:64, 89:90]]


def check(path: Path, expected: np.ndarray, **options) -> None:
    """Check whole planes and regions of Z Y X."""
    with open_stack(path, **options) as stack:
        assert stack.shape == (1, 1, *expected.shape)
        for y, x in REGIONS:
            rows, columns = slice(*y.indices(70)), slice(*x.indices(90))
            np.testing.assert_array_equal(stack.read(0, 0, [0, 2], rows, columns), expected[[0, 2], y, x])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 48)}, {"rowsperstrip": 7}, {"rowsperstrip": 70}])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
def test_tiff_layouts_and_codecs(tmp_path, byteorder, bigtiff, layout, compression) -> None:
    path = tmp_path / "a.ome.tif"
    predictor = {"predictor": True} if compression in ("lzw", "zlib", "zstd") and byteorder == "<" else {}
    more = layout | predictor | {"byteorder": byteorder, "bigtiff": bigtiff, "compression": compression}
    tifffile.imwrite(path, PIXELS, metadata={"axes": "ZYX"}, **more)
    check(path, PIXELS)


def test_jpeg_in_tiff_is_read_as_it_was_decoded(tmp_path) -> None:
    smooth = np.indices((70, 90)).sum(axis=0).astype("uint8")
    tifffile.imwrite(tmp_path / "a.tif", np.stack([smooth] * 3), compression="jpeg", metadata={"axes": "ZYX"}, ome=True)
    with open_stack(tmp_path / "a.tif") as stack:
        read = stack.read(0, 0, [1], slice(0, 70), slice(0, 90))[0]
    np.testing.assert_allclose(read.astype(int), smooth, atol=6)


@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 7}, {"tile": (32, 32)}, {"compression": "lzw"}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_of_every_layout(tmp_path, layout, planar) -> None:
    colour = np.stack([PIXELS, PIXELS // 2, PIXELS // 3], axis=-1)
    stored = np.moveaxis(colour, -1, 1) if planar == "separate" else colour
    axes = "ZSYX" if planar == "separate" else "ZYXS"
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, metadata={"axes": axes}, **layout)
    with open_stack(path) as stack:
        assert stack.rgb
        for c in range(3):
            np.testing.assert_array_equal(
                stack.read(0, c, [2, 0], slice(10, 30), slice(5, 25)), colour[[2, 0], 10:30, 5:25, c]
            )


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES)
@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_all_pixel_types(tmp_path, dtype, kind) -> None:
    pixels = (PIXELS / 17).astype(dtype)
    if kind == "tif":
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": "ZYX"}, ome=dtype != "float16"
        )
    else:
        write_store(tmp_path / "a.zarr", data=pixels)
    check(tmp_path / f"a.{kind}", pixels, **({"axes": "ZYX"} if dtype == "float16" else {}))


CODECS = {
    3: [None, zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec(cname="lz4")],
    2: [
        None,
        *(numcodecs.Blosc(cname=name, shuffle=shuffle) for name in ("lz4", "zstd", "zlib") for shuffle in (0, 1, 2)),
        *(numcodecs.GZip(), numcodecs.Zlib(), numcodecs.BZ2(), numcodecs.LZMA(), numcodecs.LZ4(), numcodecs.Zstd()),
    ],
}


@pytest.mark.parametrize(("version", "codec"), [(version, codec) for version in CODECS for codec in CODECS[version]])
def test_zarr_codecs(tmp_path, version, codec) -> None:
    write_store(tmp_path / "a.zarr", version, data=PIXELS, chunks=(1, 32, 32), compressors=codec)
    check(tmp_path / "a.zarr", PIXELS)


@pytest.mark.parametrize("codec", CODECS[3])
def test_sharded_zarr(tmp_path, codec) -> None:
    write_store(tmp_path / "a.zarr", data=PIXELS, chunks=(1, 16, 16), shards=(2, 64, 64), compressors=codec)
    check(tmp_path / "a.zarr", PIXELS)


@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("version", [2, 3])
def test_chunk_names(tmp_path, version, separator) -> None:
    name = {"name": "v2" if version == 2 else "default", "separator": separator}
    write_store(tmp_path / "a.zarr", version, data=PIXELS, chunk_key_encoding=name)
    check(tmp_path / "a.zarr", PIXELS)


def test_single_absent_chunks_are_counted(tmp_path) -> None:
    write_store(tmp_path / "a.zarr", data=PIXELS, chunks=(1, 35, 45))
    (tmp_path / "a.zarr/0/c/1/0/1").unlink()
    with open_stack(tmp_path / "a.zarr") as stack:
        assert stack.warnings == ("1 of 12 chunks are absent; by the standard they are the fill value 0.",)
        assert not stack.read(0, 0, [1], slice(0, 35), slice(45, 90)).any()
    for number in ("0/0", "1/0", "1/1"):
        (tmp_path / f"a.zarr/0/c/1/{number}").unlink()
    with pytest.raises(StoredDataError, match="no chunk of the slice at Z=1 exists"):
        open_stack(tmp_path / "a.zarr")


def imagej_in_one_page(path: Path, slices: int, side: int) -> None:
    """Write what ImageJ writes above 4 GB: one page, all planes behind it, the file sparse."""
    first = np.zeros((side, side), "uint16")
    tifffile.imwrite(path, first, description=f"ImageJ=1.54f\nimages={slices}\nslices={slices}\n", metadata=None)
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    content = path.read_bytes()
    assert len(content) == start + first.nbytes  # the pixels come last
    with path.open("r+b") as stream:
        for plane in range(slices):
            stream.seek(start + plane * first.nbytes)
            stream.write(struct.pack("<H", plane + 1))
        stream.truncate(start + slices * first.nbytes)


def test_imagej_of_more_than_4_gb_in_one_page(tmp_path) -> None:
    slices, side = 140, 4096
    imagej_in_one_page(tmp_path / "a.tif", slices, side)
    assert (tmp_path / "a.tif").stat().st_size > 2**32
    with open_stack(tmp_path / "a.tif") as stack:
        assert stack.shape == (1, 1, slices, side, side)
        assert stack.decode_unit is None
        read = stack.read(0, 0, [0, 70, slices - 1], slice(0, 2), slice(0, 2))
        assert read[:, 0, 0].tolist() == [1, 71, slices]
        assert read.sum() == 1 + 71 + slices
    with (tmp_path / "a.tif").open("r+b") as stream:
        stream.truncate(2**32)
    with pytest.raises(StoredDataError, match=r"ImageJ wrote 140 planes|cut short"):
        open_stack(tmp_path / "a.tif")


def test_names_of_any_kind(tmp_path) -> None:
    for name in ("a\nb.ome.tif", "<script>.ome.tif", "🔬 [1] *.ome.tif", "x" * 246 + ".ome.tif"):
        tifffile.imwrite(tmp_path / name, PIXELS, metadata={"axes": "ZYX"})
        check(tmp_path / name, PIXELS)


def test_another_file_under_a_companions_name(tmp_path) -> None:
    def text(uuid: str) -> str:
        data = "".join(
            f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}.ome.tif">urn:uuid:{name}</UUID>'
            "</TiffData>"
            for z, name in enumerate("ab")
        )
        return (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{uuid}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="90" SizeY="70" '
            'SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f"{data}</Pixels></Image></OME>"
        )

    for name, uuid in (("a", "a"), ("b", "other")):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", PIXELS[0], description=text(uuid), metadata=None)
    with pytest.raises(StoredDataError, match=r"b\.ome\.tif.*UUID|UUID.*b\.ome\.tif"):
        open_stack(tmp_path / "a.ome.tif")
