"""What a file claims to hold costs no more memory than what it holds: run where memory is short."""

import gzip
import os
import re
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hostile_files import FUSE, check_message, write_store

LIMIT = 6 << 30  # bytes of address space; libraries and stacks of threads take about 3 GiB of it
HUGE = 10 << 30  # bytes that a bomb inflates to


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def gzip_of_zeros(size: int) -> bytes:
    """Many small streams, one after another, as the format allows."""
    block = 1 << 26
    return gzip.compress(bytes(block)) * (size // block)


def zstd_of_zeros(size: int) -> bytes:
    """A frame that says how large it becomes, made of blocks of one repeated byte (RFC 8878)."""
    block = 1 << 17
    count = size // block
    blocks = b"".join(struct.pack("<I", (at == count - 1) | 1 << 1 | block << 3)[:3] + b"\0" for at in range(count))
    return b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + struct.pack("<Q", size) + blocks


def zarr_bomb(path: Path, chunk: bytes, version: int, codec: object) -> None:
    write_store(path, version, compressors=codec)
    (path / ("0/1.0.0" if version == 2 else "0/c/1/0/0")).write_bytes(chunk)


def make(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Make all of them; each needs no more than some MB on disk."""
    made: dict[str, tuple[list[str], str]] = {}
    gzipped, zstd = gzip_of_zeros(HUGE), zstd_of_zeros(HUGE)
    blosc = bytearray(numcodecs.Blosc().encode(np.zeros(512, "uint8")))
    blosc[4:8] = struct.pack("<I", 2**31 - 17)
    bombs = {"gzip": gzipped, "zstd": zstd, "blosc": bytes(blosc)}
    codecs = {
        3: {"gzip": zarr.codecs.GzipCodec(), "zstd": zarr.codecs.ZstdCodec(), "blosc": zarr.codecs.BloscCodec()},
        2: {"gzip": numcodecs.GZip(), "zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc()},
    }
    for version, of_version in codecs.items():
        for kind, codec in of_version.items():
            path = folder / f"{kind}{version}.ome.zarr"
            zarr_bomb(path, bombs[kind], version, codec)
            made[path.name] = [str(path)], "inflates to"
    strips = np.zeros((2, 64, 64), "uint16")
    for kind, data in {"zlib": zlib.compress(bytes(1 << 28)), "zstd": zstd}.items():
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, strips, compression=kind, metadata=None, photometric="minisblack")
        content = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            page = file.pages[1]
            for code, value in ((273, len(content)), (279, len(data))):
                tag = page.tags[code]
                struct.pack_into("<I", content, tag.valueoffset, value)
        path.write_bytes(content + data)
        made[path.name] = [str(path), "--axes", "ZYX"], "cannot be read"
    for kind, side in {"wide": 10**6, "overflow": 2**32 - 1}.items():
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, strips, compression="zlib", metadata=None, photometric="minisblack")
        content = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            for tag in (page.tags[code] for page in file.pages for code in (256, 257, 278)):
                # As a number of four bytes, whatever it was.
                struct.pack_into("<HHII", content, tag.offset, tag.code, 4, 1, side)
        path.write_bytes(content)
        made[path.name] = [str(path), "--axes", "ZYX"], "can only be decoded as a whole"
    png = folder / "a.png"
    good = imagecodecs.png_encode(np.zeros((8, 8), "uint8"))
    png.write_bytes(good[:16] + struct.pack(">II", 50_000, 50_000) + good[24:] + bytes(10**6))
    made[png.name] = [str(png), str(png)], "cannot be read|cannot hold"
    return made


@pytest.mark.skipif(os.name == "nt", reason="memory is limited as on Unix")
def test_files_that_claim_more_than_they_hold_are_refused_where_memory_is_short(tmp_path: Path) -> None:
    made = make(tmp_path)
    runs = [[*words, "-o", str(tmp_path / "out.ome.zarr"), *FUSE, "--memory", "1G"] for words, _ in made.values()]
    code = f"""
import sys
from hybridfusion_core.cli import main
for words in {runs!r}:
    print("STATUS", main(["fuse", *words]), flush=True)
    print("END", file=sys.stderr, flush=True)
"""
    before = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.stdout.split() == ["STATUS", "2"] * len(made), done.stdout + done.stderr
    for (_, message), said in zip(made.values(), done.stderr.split("END\n"), strict=False):
        last = said.strip().splitlines()[-1]
        check_message(last)
        assert re.search(message, last), last
    assert sorted(path.name for path in tmp_path.iterdir()) == before
