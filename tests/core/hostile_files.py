"""Broken and hostile files of every kind, what `fuse` says to each, and the check that it says it well."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from hybridfusion_core.cli import main

PIXELS = np.random.default_rng(0).integers(1, 60_000, (4, 32, 32)).astype("uint16")
FUSE = ("--method", "tenengrad", "--z-step", "1")

Case = Callable[[Path], str | list[str]]


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_size for path in folder.rglob("*")}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    before = everything(folder)
    capsys.readouterr()
    status = main(["fuse", *words, "-o", str(folder / "out.ome.zarr"), *FUSE])
    captured = capsys.readouterr()
    *_, last = captured.err.strip().splitlines()
    assert status == 2, captured
    assert captured.out == ""
    assert "Traceback" not in captured.err
    check_message(last)
    assert everything(folder) == before
    return last


def check_message(line: str) -> None:
    """Found, expected, cure: at least two sentences, one with what was expected."""
    assert line.startswith("hybridfusion: ")
    assert "expected" in line.lower()
    assert line.endswith(".")
    assert len([part for part in line.replace("; ", ". ").split(". ") if part]) >= 2


def content(name: str, data: bytes) -> Case:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return str(folder / name)

    return make


def tiff(damage: Callable[[bytearray, tifffile.TiffFile], bytes | bytearray | None], *more: str, **options) -> Case:
    """Write a good TIFF, then damage its bytes."""
    stated = {"metadata": None, "photometric": "minisblack"} | options

    def make(folder: Path) -> list[str]:
        path = folder / "a.tif"
        tifffile.imwrite(path, PIXELS, **stated)
        data = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            changed = damage(data, file)
        path.write_bytes(data if changed is None else changed)
        return [str(path), *(more or ("--axes", "ZYX"))]

    return make


def tag(code: int, value: int) -> Case:
    """Overwrite a tag of the first page."""

    def damage(data: bytearray, file: tifffile.TiffFile) -> None:
        found = file.pages.first.tags[code]
        struct.pack_into({3: "<H", 4: "<I"}[int(found.dtype)], data, found.valueoffset, value)

    return tiff(damage)


def cut_after_page(number: int) -> Case:
    def damage(data: bytearray, file: tifffile.TiffFile) -> bytearray:
        pages = list(file.pages)
        ends = sorted({page.offset for page in pages} | {page.dataoffsets[0] + page.nbytes for page in pages})
        return data[: ends[number]]

    return tiff(damage, compression=None)


def loop(data: bytearray, file: tifffile.TiffFile) -> None:
    first = file.pages[0].offset
    len(file.pages)
    struct.pack_into("<I", data, file.pages.next_page_offset, first)


def ome(text: str) -> Case:
    def make(folder: Path) -> str:
        path = folder / "a.ome.tif"
        tifffile.imwrite(path, PIXELS, description=text.encode(), metadata=None, photometric="minisblack")
        return str(path)

    return make


def xml(*, sizes: str = "", head: str = "", data: str = "<TiffData/>") -> str:
    stated = sizes or "SizeX='32' SizeY='32' SizeZ='4' SizeC='1' SizeT='1'"
    return (
        f"<?xml version='1.0'?>{head}<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06' UUID='urn:uuid:1'>"
        f"<Image ID='Image:0'><Pixels ID='Pixels:0' DimensionOrder='XYZCT' Type='uint16' {stated}>"
        f"<Channel ID='Channel:0:0' SamplesPerPixel='1'/>{data}</Pixels></Image></OME>"
    )


def plane_in(name: str, uuid: str, at: int = 0) -> str:
    return f"<TiffData IFD='{at}' FirstZ='{at}'><UUID FileName='{name}'>urn:uuid:{uuid}</UUID></TiffData>"


def slices(**of: np.ndarray) -> Case:
    def make(folder: Path) -> str:
        for name, pixels in of.items():
            stem, suffix = name.split("_")
            path = folder / "slices" / f"{stem}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            if suffix == "png":
                path.write_bytes(imagecodecs.png_encode(pixels))
            else:
                tifffile.imwrite(path, pixels, metadata=None)
        return str(folder / "slices")

    return make


def store(change: Callable[[dict, Path], object] = lambda *_: None, version: int = 3, **array) -> Case:
    """Write a good OME-Zarr image, then change its metadata or files."""

    def make(folder: Path) -> str:
        path = folder / "a.ome.zarr"
        write_store(path, version, **array)
        name = "zarr.json" if version == 3 else ".zattrs"
        tree = json.loads((path / name).read_text())
        image = tree["attributes"]["ome"] if version == 3 else tree
        change(image, path)
        if (path / name).exists() and not (path / name).is_fifo():
            (path / name).write_text(json.dumps(tree))
        return str(path)

    return make


def write_store(path: Path, version: int = 3, **array) -> None:
    group = zarr.create_group(path, zarr_format=version)
    group.create_array("0", **{"data": PIXELS, "chunks": (1, 16, 16)} | array)
    axes = [{"name": letter, "type": "space", "unit": "micrometer"} for letter in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]}]
    metadata = {"multiscales": [{"axes": axes, "datasets": datasets, "name": "a"}]}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == 3 else metadata)


def entry(**values) -> Callable[[dict, Path], object]:
    return lambda image, _: image["multiscales"][0].update(values)


def dataset(**values) -> Callable[[dict, Path], object]:
    return lambda image, _: image["multiscales"][0]["datasets"][0].update(values)


def array_metadata(**values) -> Callable[[dict, Path], object]:
    def change(_: dict, path: Path) -> None:
        stated = json.loads((path / "0/zarr.json").read_text())
        (path / "0/zarr.json").write_text(json.dumps(stated | values))

    return change


def link_out(_: dict, path: Path) -> None:
    shutil.move(path / "0", path.parent / "elsewhere")
    (path / "0").symlink_to(path.parent / "elsewhere")


def files(action: Callable[[Path], object]) -> Callable[[dict, Path], object]:
    return lambda _, path: action(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loose_pipe(folder: Path) -> str:
    os.mkfifo(folder / "a.tif")
    return str(folder / "a.tif")


def link_loop(folder: Path) -> str:
    (folder / "a.tif").symlink_to(folder / "b.tif")
    (folder / "b.tif").symlink_to(folder / "a.tif")
    return str(folder / "a.tif")


def of_dtype(dtype: str) -> Case:
    def make(folder: Path) -> list[str]:
        tifffile.imwrite(folder / "a.tif", PIXELS.astype(dtype), metadata=None, photometric="minisblack")
        return [str(folder / "a.tif"), "--axes", "ZYX"]

    return make


def floats(values: np.ndarray) -> Case:
    def make(folder: Path) -> str:
        tifffile.imwrite(
            folder / "a.ome.tif", values.astype("float32"), metadata={"axes": "ZYX"}, photometric="minisblack"
        )
        return str(folder / "a.ome.tif")

    return make


def folder_of(*names: str) -> Case:
    def make(folder: Path) -> str:
        (folder / "slices").mkdir()
        for name in names:
            (folder / "slices" / name).write_bytes(b"x")
        return str(folder / "slices")

    return make


def shard_with_broken_index(_: dict, path: Path) -> None:
    shard = path / "0/c/1/0/0"
    data = bytearray(shard.read_bytes())
    data[-20:] = b"\xff" * 20
    shard.write_bytes(data)


def truncated(name: str, keep: int) -> Callable[[dict, Path], object]:
    return files(lambda path: (path / name).write_bytes((path / name).read_bytes()[:keep]))


CASES: dict[str, tuple[Case, str]] = {
    "nothing there": (lambda folder: str(folder / "none.tif"), "does not exist"),
    "zero bytes": (content("a.tif", b""), "is empty"),
    "zero bytes as PNG": (content("a.png", b""), "is empty"),
    "text": (content("a.tif", b"this is text"), "no readable TIFF"),
    "text as PNG": (content("a.png", b"this is text"), "no PNG"),
    "text as JPEG": (content("a.jpg", b"this is text"), "no PNG"),
    "other microscope format": (content("a.czi", b"ZISRAWFILE"), "no readable Zeiss CZI file"),
    "header only": (content("a.tif", b"II*\0\x08\0\0\0"), "a.tif"),
    "BigTIFF header only": (content("a.tif", b"II+\0\x08\0\0\0\x10" + bytes(7)), "a.tif"),
    "PNG header only": (content("a.png", b"\x89PNG\r\n\x1a\n"), "cannot be read"),
    "JPEG header only": (content("a.jpg", b"\xff\xd8\xff\xe0"), "cannot be read"),
    "PNG of 10^12 pixels": (
        content("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 16, 0, 0, 0, 0)),
        "cannot hold",
    ),
    "palette PNG": (
        content("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 9, 9, 8, 3, 0, 0, 0)),
        "palette",
    ),
    "pipe": (loose_pipe, "pipe"),
    "device": (lambda _: "/dev/zero", "device"),
    "link loop": (link_loop, "cannot be looked up|does not exist"),
    "name with NUL": (lambda folder: str(folder / "a\0b.tif"), r"a\\x00b.tif"),
    "name with newline": (lambda folder: str(folder / "a\nb.tif"), r"a\\nb.tif"),
    "name that steers a terminal": (lambda folder: str(folder / "\x1b[2J.tif"), r"\\x1b\[2J"),
    "name of markup": (content("<script>alert(1)<_script>.tif", b"x"), "<script>"),
    "name of emoji": (content("🔬.tif", b"x"), "🔬"),
    "name of 255 bytes": (content("x" * 251 + ".tif", b"x"), "no readable TIFF"),
    "name of 300 bytes": (lambda folder: str(folder / ("x" * 300 + ".tif")), "cannot be looked up"),
    **{f"cut in page {n}": (cut_after_page(n), "a.tif") for n in range(7)},
    "pages that loop": (tiff(loop), "another page is announced"),
    "width of 10^9": (tag(256, 10**9), "a.tif"),
    "height of 10^9": (tag(257, 10**9), "a.tif"),
    "77 bits per sample": (tag(258, 77), "a.tif"),
    "unknown compression": (tag(259, 60_000), "a.tif"),
    "pixels behind the end": (tag(273, 2**31), "cut short"),
    "nine samples per pixel": (tag(277, 9), "a.tif"),
    "DOCTYPE": (ome(xml(head="<!DOCTYPE OME [<!ENTITY a 'b'>]>")), "DOCTYPE or ENTITY"),
    "billion laughs": (ome(xml(head="<!DOCTYPE l [<!ENTITY l 'l'><!ENTITY m '&l;&l;'>]>")), "DOCTYPE or ENTITY"),
    "external entity": (ome(xml(head="<!doctype OME SYSTEM 'file:///etc/passwd'>")), "DOCTYPE or ENTITY"),
    "XML cut short": (ome(xml()[:-9]), "a.ome.tif"),
    "more planes than pages": (ome(xml(sizes="SizeX='32' SizeY='32' SizeZ='9' SizeC='1' SizeT='1'")), "9 planes"),
    "10^20 planes": (ome(xml(sizes=f"SizeX='32' SizeY='32' SizeZ='1{'0' * 20}' SizeC='1' SizeT='1'")), "planes"),
    "negative size": (ome(xml(sizes="SizeX='32' SizeY='32' SizeZ='-4' SizeC='1' SizeT='1'")), "planes"),
    "missing companion": (ome(xml(data=plane_in("a.ome.tif", "1") + plane_in("b.ome.tif", "2", 1))), "is missing"),
    "companion elsewhere": (ome(xml(data=plane_in("../b.ome.tif", "2"))), "in the same folder"),
    "unknown UUID": (ome(xml(data="".join(plane_in("a.ome.tif", "77", at) for at in range(4)))), "UUID 'urn:uuid:77'"),
    "complex numbers": (of_dtype("complex64"), "pixels are complex64"),
    "truth values": (of_dtype("bool"), "pixels are bool"),
    "all NaN": (floats(np.full((3, 32, 32), np.nan)), "--nan ignore"),
    "one infinity": (floats(np.where(np.arange(3 * 1024).reshape(3, 32, 32) == 77, np.inf, 1)), "y=2, x=13 is inf"),
    "one slice": (content("a.png", imagecodecs.png_encode(PIXELS[0])), "a single slice"),
    "no axes": (lambda folder: of_dtype("uint16")(folder)[0], "--axes"),
    "wrong axes": (lambda folder: [of_dtype("uint16")(folder)[0], "--axes", "ZCYX"], "axes"),
    "sizes that differ": (slices(a_png=PIXELS[0], b_png=PIXELS[1, :31]), "b.png is 31"),
    "dtypes that differ": (slices(a_tif=PIXELS[0], b_tif=PIXELS[1].astype("uint8")), "b.tif is"),
    "mixed folder": (slices(a_png=PIXELS[0], b_tif=PIXELS[1]), "mixes kinds"),
    "empty folder": (folder_of(), "holds no images"),
    "folder of texts": (folder_of("a.txt", "b.csv"), "holds no images"),
    "folder of hidden files": (folder_of(".a.tif"), "holds no images"),
    "folder of broken images": (folder_of("a.png", "b.png"), "no PNG"),
    "zarr without metadata": (store(files(lambda path: (path / "zarr.json").unlink())), "no zarr metadata"),
    "bad JSON": (store(truncated("0/zarr.json", 100)), "cannot be opened as zarr"),
    "no datasets": (store(entry(datasets=[])), "lists no datasets"),
    "no multiscales": (store(lambda image, _: image.update(multiscales=[])), "lists no datasets"),
    "multiscales is a text": (store(lambda image, _: image.update(multiscales="a")), "lists no datasets"),
    "dataset without path": (store(entry(datasets=[{}])), "lists no datasets|has no path"),
    "dataset that is not there": (store(dataset(path="7")), "cannot be opened"),
    "two axes for three": (store(entry(axes=[{"name": "y"}, {"name": "x"}])), "name 2 axes, the array has 3"),
    "axes are a number": (store(entry(axes=7)), "cannot be understood"),
    "the same axis twice": (store(entry(axes=[{"name": n} for n in "yyx"])), "different letters"),
    "path upwards": (store(dataset(path="../../etc")), "leads out of the store"),
    "absolute path": (store(dataset(path="/etc")), "leads out of the store"),
    "link out of the store": (store(link_out), "leads out of the store"),
    "unknown codec": (store(array_metadata(codecs=[{"name": "hybridfusion-none"}])), "cannot be opened"),
    "unknown dtype": (store(array_metadata(data_type="uint17")), "cannot be opened"),
    # What the fuzzer found: zarr lists a damaged array only when the group is looked at.
    "collection with a damaged array": (
        store(lambda image, path: (image.clear(), array_metadata(shape=None)(image, path))),
        "cannot be understood|cannot be opened",
    ),
    "negative shape": (store(array_metadata(shape=[-4, 32, 32])), "a.ome.zarr"),
    "shape of zero": (store(array_metadata(shape=[0, 32, 32])), "at least one element"),
    "10^15 slices, four there": (store(array_metadata(shape=[10**15, 32, 32])), "no chunk of the slice at Z=4"),
    "10^15 pixels, few there": (store(array_metadata(shape=[4, 10**15, 10**15])), "chunks exist"),
    "slice without any chunk": (store(files(lambda path: shutil.rmtree(path / "0/c/2"))), "slice at Z=2"),
    "array without any chunk": (store(files(lambda path: shutil.rmtree(path / "0/c"))), "slice at Z=0"),
    "chunk cut short": (store(truncated("0/c/1/0/0", 9)), "cannot be read"),
    "chunk of zero bytes": (store(truncated("0/c/1/0/0", 0)), r"is empty \(0 bytes\)"),
    "shard with a broken index": (
        store(shard_with_broken_index, shards=(1, 32, 32)),
        "cannot be read",
    ),
    "chunk that is a pipe": (store(files(lambda path: pipe(path / "0/c/1/0/0"))), "pipe or a device"),
    "metadata that are a pipe": (store(files(lambda path: pipe(path / "zarr.json"))), "no regular file"),
    "zarr 2: chunk cut short": (store(truncated("0/1.0.0", 9), version=2), "cannot be read"),
    "zarr 2: slice without chunk": (
        store(files(lambda path: [each.unlink() for each in (path / "0").glob("3.*")]), version=2),
        "slice at Z=3",
    ),
    "zarr 2: bad metadata": (store(truncated("0/.zarray", 40), version=2), "cannot be opened"),
}
