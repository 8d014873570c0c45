"""Which file endings are known, and what is left of a name without them."""

import re
from pathlib import Path

TIFF_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf", ".tif", ".tiff", ".tf8", ".btf")
ZARR_SUFFIXES = (".ome.zarr", ".zarr")
ZIPPED_SUFFIXES = (".zarr.zip", ".ozx")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NATIVE_SUFFIXES = (".nd2", ".czi", ".lif", ".oib", ".oif", ".oir", ".vsi")
STACK_FILES = (*TIFF_SUFFIXES, *NATIVE_SUFFIXES)  # files that may hold a whole stack
IMAGE_FILES = (*STACK_FILES, *PICTURE_SUFFIXES)
OUTPUT_KINDS = {".ome.zarr": "OME-Zarr", ".ome.tif": "OME-TIFF", ".tif": "TIFF", ".png": "PNG"}  # what is written
OUTPUT_SUFFIXES = tuple(OUTPUT_KINDS)
_COMPANIONS = {
    ".ome.zarr": ("maps",),
    ".zarr": ("maps",),
    ".ome.tif": ("decision", "maps"),
    ".tif": ("decision", "maps"),
}

_OF_A_FILE = re.compile(r"\.oif\.files$|^_.+_$", re.IGNORECASE)


def belongs_to_file(folder: str) -> bool:
    """Say whether a folder of that name holds the planes of a file beside it: those of an OIF or of a VSI."""
    return _OF_A_FILE.search(folder) is not None


def has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Say whether a name ends with one of the suffixes, in any case."""
    return path.name.lower().endswith(suffixes)


def output_suffix(path: Path) -> str | None:
    """Return the output suffix of a path, the longest that fits, or None."""
    return next((suffix for suffix in OUTPUT_SUFFIXES if has_suffix(path, (suffix,))), None)


def result_paths(path: Path) -> dict[str, Path]:
    """Return where each part of a result goes, by the product it holds; the main one, under `path` itself, first."""
    # A batch may call its plate X.zarr.
    suffix = output_suffix(path) or next((each for each in ZARR_SUFFIXES if has_suffix(path, (each,))), "")
    products = _COMPANIONS.get(suffix, ())
    stem, ending = path.name[: len(path.name) - len(suffix)], path.name[len(path.name) - len(suffix) :]
    return {"fused": path} | {product: path.with_name(f"{stem}.{product}{ending}") for product in products}


def image_name(path: Path) -> str:
    """Return the file name without its image suffix."""
    # The longest suffixes come first, so that `a.ome.tif` becomes `a` and not `a.ome`.
    for suffix in (*ZARR_SUFFIXES, *IMAGE_FILES):
        if has_suffix(path, (suffix,)) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name or str(path)
