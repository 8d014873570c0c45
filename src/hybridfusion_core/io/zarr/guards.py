"""Codecs that look before they leap: a chunk of a few bytes may claim to hold gigabytes, and zarr believes it."""

from __future__ import annotations

import asyncio
import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from math import prod
from typing import Any

import imagecodecs
import numcodecs  # type: ignore[import-untyped]
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec

_TEXT = 256  # bytes of a string in a table, on average
_SLACK = 1 << 20  # bytes; headers of codecs and of filters before them


def bounded(array: Any) -> Any:
    """Return the same zarr array with codecs that refuse a chunk which inflates beyond its size.

    A chunk of a few bytes may claim to hold gigabytes.
    """
    metadata = array.metadata
    if array.metadata.zarr_format == 2:
        limit = 8 * prod(array.chunks) * array.dtype.itemsize + _SLACK  # filters may change the size of a value
        compressor = metadata.compressor
        if compressor is not None and compressor.codec_id in _INFLATE:
            object.__setattr__(metadata, "compressor", _BoundedV2(compressor, limit))
    else:
        object.__setattr__(metadata, "codecs", tuple(_bounded_codec(codec) for codec in metadata.codecs))
    inner = array.async_array
    return zarr.Array(type(inner)(metadata=metadata, store_path=inner.store_path, config=inner.config))


def _bounded_codec(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return ShardingCodec(
            chunk_shape=codec.chunk_shape,
            codecs=tuple(_bounded_codec(each) for each in codec.codecs),
            index_codecs=codec.index_codecs,
            index_location=codec.index_location,
        )
    made = _V3.get(type(codec))
    return codec if made is None else made.from_dict(codec.to_dict())


class _Bounded:
    """Before a chunk is decompressed, see how large it would be."""

    codec_id: str

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        limit = prod(chunk_spec.shape) * getattr(chunk_spec.dtype, "item_size", _TEXT) + _SLACK
        data = chunk_bytes.to_bytes()
        inflated = await asyncio.to_thread(_INFLATE[self.codec_id], data, limit)
        if inflated is not None:
            return chunk_spec.prototype.buffer.from_bytes(inflated)
        return await super()._decode_single(chunk_bytes, chunk_spec)  # type: ignore[misc]


class _BoundedGzip(_Bounded, GzipCodec):
    codec_id = "gzip"


class _BoundedZstd(_Bounded, ZstdCodec):
    codec_id = "zstd"


class _BoundedBlosc(_Bounded, BloscCodec):
    codec_id = "blosc"


_V3: dict[type, Any] = {GzipCodec: _BoundedGzip, ZstdCodec: _BoundedZstd, BloscCodec: _BoundedBlosc}


class _BoundedV2(numcodecs.abc.Codec):  # type: ignore[misc]
    """A compressor of zarr 2, bounded."""

    def __init__(self, codec: Any, limit: int) -> None:
        self.codec_id = codec.codec_id
        self._codec, self._limit = codec, limit

    def encode(self, buf: Any) -> Any:
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        inflated = _INFLATE[self.codec_id](bytes(memoryview(buf)), self._limit)
        return self._codec.decode(buf, out) if inflated is None else inflated

    def get_config(self) -> Any:
        return self._codec.get_config()


def _refuse(size: int | str, limit: int) -> None:
    raise ValueError(f"a chunk inflates to {size} bytes, at most {limit} belong to it")


def _blosc(data: bytes, limit: int) -> None:
    if len(data) >= 8 and (size := struct.unpack_from("<I", data, 4)[0]) > limit:
        _refuse(size, limit)


def _lz4(data: bytes, limit: int) -> None:
    if len(data) >= 4 and (size := struct.unpack_from("<I", data)[0]) > limit:
        _refuse(size, limit)


def _zstd(data: bytes, limit: int) -> bytes | None:
    """Read the size from the header of the frame (RFC 8878, 3.1.1.1); without one, decode into a bounded buffer."""
    if len(data) < 18:
        return None
    flags = data[4]
    at = 5 + (not flags & 0x20) + (0, 1, 2, 4)[flags & 3]
    length = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    if not length:
        return bytes(imagecodecs.zstd_decode(data, out=limit))
    size = int.from_bytes(data[at : at + length], "little") + (256 if length == 2 else 0)
    if size > limit:
        _refuse(size, limit)
    return None


def _stream(make: Callable[[], Any]) -> Callable[[bytes, int], bytes]:
    def inflate(data: bytes, limit: int) -> bytes:
        parts, room = [], limit
        while data:  # a file may be several streams, one after another
            decoder = make()
            part = decoder.decompress(data, room + 1)
            room -= len(part)
            if room < 0:
                _refuse(f"more than {limit}", limit)
            if not decoder.eof:
                raise ValueError("a chunk ends too early")
            parts.append(part)
            data = decoder.unused_data.lstrip(b"\0")
        return b"".join(parts)

    return inflate


_INFLATE: dict[str, Callable[[bytes, int], bytes | None]] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _stream(lambda: zlib.decompressobj(31)),
    "zlib": _stream(lambda: zlib.decompressobj(15)),
    "bz2": _stream(bz2.BZ2Decompressor),
    "lzma": _stream(lzma.LZMADecompressor),
}
