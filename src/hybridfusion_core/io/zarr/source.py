"""Where the metadata of an OME-Zarr are read from as files: a folder, or a URL.

`s3://` and `https://` are read through fsspec, as zarr's own store for them does. What is behind a URL is
as untrusted as any file: sizes are bounded, and paths that metadata name stay below the URL.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.io.zarr.ngff_reading import is_plain

METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_LARGEST = 64 << 20  # bytes of one file of metadata
_AT_ONCE = 16  # requests
_URL = re.compile(r"(s3|https?)://[^/]+/*[^/]")


class ZarrSource(Protocol):
    """A tree of files."""

    name: str  # for messages

    def read(self, inside: str) -> bytes | None:
        """Return the content of a file of metadata, or None if it is not there.

        Raises:
            StoredDataError: it is too large.
        """

    def holds(self, inside: str) -> bool:
        """Say whether a path from the metadata stays in the tree, whatever links lie on its way."""

    def expect(self, inside: Iterable[str]) -> None:
        """Announce that files will be read, so that slow sources fetch them together."""


class FolderSource:
    """A folder.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path, self._root = path, Path(os.path.realpath(path))

    def read(self, inside: str) -> bytes | None:
        """Return the content of a file, or None."""
        path = self._path / inside
        if not path.is_file():
            return None
        _check_size(path.name, path.stat().st_size)
        return path.read_bytes()

    def holds(self, inside: str) -> bool:
        """Say whether a path stays in the folder."""
        return is_plain(inside) and Path(os.path.realpath(self._path / inside)).is_relative_to(self._root)

    def expect(self, inside: Iterable[str]) -> None:
        """Do nothing: a disk answers at once."""


class UrlSource:
    """What is behind a URL.

    Args:
        url: `s3://` or `http(s)://`; credentials come from where S3 clients look for them.

    Raises:
        UserInputError: the libraries are not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name = self.url.rpartition("/")[2]
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415  (imports take long, and few need them)

            # What others write meanwhile is seen.
            self._fs, self._path = url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise UserInputError(
                f"{url} cannot be read without further libraries ({error}); expected those of the extra 'cloud'. "
                "Install it: pip install 'napari-hybridfusion[cloud]', or copy the plate to this computer."
            ) from error
        self._known: dict[str, bytes | None] = {}

    @property
    def lists(self) -> bool:
        """Whether the server says which files there are; web servers do not."""
        return self.url.startswith("s3:")

    def read(self, inside: str) -> bytes | None:
        """Return the content of a file, or None."""
        if inside not in self._known:
            self.expect([inside])
        return self._known.pop(inside)

    def holds(self, inside: str) -> bool:
        """Say whether a path stays below the URL."""
        return is_plain(inside)

    def expect(self, inside: Iterable[str]) -> None:
        """Read files together."""
        wanted = [each for each in inside if each not in self._known]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self._known.update(zip(wanted, threads.map(self._fetched, wanted), strict=True))

    def names(self, inside: str, wanted: Sequence[str]) -> set[str]:
        """Return which of some files in a folder are there."""
        if self.lists:
            return {name for name, _ in self.listing(inside)} & set(wanted)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = list(threads.map(lambda name: self._fs.exists(f"{self._path}/{inside}/{name}"), wanted))
        return {name for name, there in zip(wanted, found, strict=True) if there}

    def listing(self, inside: str) -> Iterator[tuple[str, str]]:
        """Yield name and version of all files in a folder, where the server lists them."""
        folder = f"{self._path}/{inside}".rstrip("/")
        for path, about in self._fs.find(folder, detail=True).items():
            yield path[len(folder) + 1 :], f"{about.get('size')} {about.get('ETag')}"

    def versions(self, inside: str) -> list[tuple[str, str]]:
        """Return what changes when an image changes: all its files, or its metadata where nothing lists them."""
        if self.lists:
            return sorted(self.listing(inside))
        found = {name: self.read(f"{inside}/{name}") for name in METADATA_FILES}
        for level in _levels(found):
            found |= {f"{level}/{name}": self.read(f"{inside}/{level}/{name}") for name in METADATA_FILES}
        return [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(found.items()) if content]

    def _fetched(self, inside: str) -> bytes | None:
        path = f"{self._path}/{inside}"
        with reached(self.url):
            try:
                content: bytes = self._fs.cat_file(path, start=0, end=_LARGEST + 1)
            except (FileNotFoundError, PermissionError):  # S3 says so of what is not there to those who may not list
                return None
            except ValueError:  # a server that knows no parts of files
                content = self._fs.cat_file(path)
        _check_size(inside, len(content))
        return content


def is_url(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a URL that is read through the network."""
    return isinstance(path, str) and _URL.match(path) is not None


def source_of(path: str | Path) -> ZarrSource:
    """Return where metadata are read from.

    Args:
        path: folder or URL.
    """
    return UrlSource(path) if isinstance(path, str) and is_url(path) else FolderSource(Path(path))


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Explain whatever goes wrong between here and a server.

    Raises:
        UserInputError: it does.
    """
    try:
        yield
    except (HybridFusionError, KeyError, ValueError, TypeError):  # of what was read
        raise
    except Exception as error:
        raise UserInputError(
            f"{url} cannot be read ({type(error).__name__}: {error}); expected a server that answers and lets you in. "
            "Check the address, the network and the credentials, or copy the plate to this computer."
        ) from error


def _levels(found: dict[str, bytes | None]) -> list[str]:
    try:
        stored = json.loads(found["zarr.json"] or found[".zattrs"] or b"{}")
        attributes = stored.get("attributes", stored)
        return [str(attributes.get("ome", attributes)["multiscales"][0]["datasets"][0]["path"])]
    except (ValueError, LookupError, TypeError, AttributeError):  # it says nothing
        return []


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST:
        raise StoredDataError(
            f"{name} has more than {_LARGEST >> 20} MiB; expected metadata of at most as much. It is damaged: copy or "
            "write the plate again."
        )
