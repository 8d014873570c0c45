"""The one table of plate layouts: what the files are called, what describes them, in which unit.

The expressions match the whole name of a file, or the whole path inside the plate's folder where they contain "/".
Sources: the microscopes' own exports as open-source readers parse them (faim-ipa, openhcs, fractal); no file of a
vendor has been read yet with the layouts that are called experimental.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


@dataclass(frozen=True)
class Layout:
    """How one kind of microscope or program leaves a plate on disk.

    Attributes:
        name: short, as `Plate.layout` has it.
        title: for people.
        files: expression for the files of planes, with groups row and column or well, field, time, z and channel as
            far as the names have them; None where something else says what belongs to what.
        metadata: lower-case names or endings of the files that describe the plate.
        unit: of coordinates in the metadata.
        experimental: it has never met real files of a vendor.
    """

    name: str
    title: str
    files: re.Pattern[str] | None
    metadata: tuple[str, ...]
    unit: str
    experimental: bool


LAYOUTS = (
    Layout(
        name="ome-zarr",
        title="OME-Zarr HCS 0.4 and 0.5",
        files=None,
        metadata=("zarr.json", ".zattrs"),
        unit="as the metadata say",
        experimental=False,
    ),
    Layout(
        name="harmony",
        title="Opera Phenix and Operetta (Harmony)",
        files=re.compile(
            r"r(?P<row>\d{1,2})c(?P<column>\d{1,2})f(?P<field>\d{1,4})p(?P<z>\d{1,4})-ch(?P<channel>\d{1,2})"
            r"(?:sk(?P<time>\d{1,5}))?(?:fk\d{1,5})?(?:fl\d{1,5})?\.tiff?",
            re.IGNORECASE,
        ),
        metadata=("index.idx.xml", "index.xml"),
        unit="meter",
        experimental=True,
    ),
    Layout(
        name="imagexpress",
        title="ImageXpress (MetaXpress)",
        files=re.compile(
            r"(?:[^/]*/){0,4}?(?:TimePoint_(?P<time>\d{1,5})/)?(?:ZStep_(?P<z>\d{1,4})/)?"
            r"(?:[^/]*_)?(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<field>\d{1,4}))?(?:_w(?P<channel>\d{1,2}))?"
            rf"(?:{_GUID}|_?\[{_GUID}\])?\.(?i:tiff?)",
        ),
        metadata=(".htd",),
        unit="micrometer",
        experimental=True,
    ),
    Layout(
        name="yokogawa",
        title="Yokogawa CV7000 and CV8000",
        files=re.compile(
            r"(?:.*_)?(?P<well>[A-Z]{1,2}\d{2}(?:\.[ab][12])?)_T(?P<time>\d{1,5})F(?P<field>\d{1,4})"
            r"L(?P<timeline>\d{1,3})A(?P<action>\d{1,3})Z(?P<z>\d{1,4})C(?P<channel>\d{1,2})\.(?:tiff?|png)",
            re.IGNORECASE,
        ),
        metadata=("measurementdata.mlf",),
        unit="micrometer",
        experimental=True,
    ),
    Layout(
        name="pattern",
        title="names that --pattern describes",
        files=None,
        metadata=(),
        unit="none",
        experimental=False,
    ),
    Layout(
        name="ome-tiff",
        title="folder of OME-TIFFs, one field or more in each",
        files=None,
        metadata=(),
        unit="as the metadata say",
        experimental=False,
    ),
)


def layout(name: str) -> Layout:
    """Return the row of the table that has a name."""
    return next(each for each in LAYOUTS if each.name == name)


def plane_names(name: str) -> re.Pattern[str]:
    """Return the expression for the files of a layout that has one."""
    files = layout(name).files
    if files is None:
        raise ValueError(f"the layout {name!r} has no names of its own")
    return files
