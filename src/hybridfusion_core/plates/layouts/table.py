"""The one table of plate layouts: what the files are called, what describes them, in which unit.

The expressions match the whole name of a file, or the whole path inside the plate's folder where they contain "/".
Where no real export has been read, a row was written from public documentation and the sources of open readers
(Bio-Formats, faim-ipa, openhcs, fractal-uzh-converters, bioio-imagexpress).
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
        real: what real export it has read; "" if it was written from documentation.
        root: outermost element of an index that may have any name, or None.
        shared: other programs call their files like the index; it counts only beside planes of this layout.
        above: the index may lie in the folder above the images.
        headers: planes carry MetaSeries metadata, with pixel sizes and positions on the stage.
    """

    name: str
    title: str
    files: re.Pattern[str] | None
    metadata: tuple[str, ...]
    unit: str
    real: str = ""
    root: str | None = None
    shared: bool = False
    above: bool = False
    headers: bool = False

    @property
    def experimental(self) -> bool:
        """It has never met real files."""
        return not self.real


LAYOUTS = (
    Layout(
        name="ome-zarr",
        title="OME-Zarr HCS 0.4 and 0.5",
        files=None,
        metadata=("zarr.json", ".zattrs"),
        unit="as the metadata say",
        real="plates of ngio, iohub and bioformats2raw",
    ),
    Layout(
        name="harmony",
        title="Opera Phenix and Operetta (Harmony)",
        files=re.compile(
            r"r(?P<row>\d{1,2})c(?P<column>\d{1,2})f(?P<field>\d{1,4})p(?P<z>\d{1,4})-ch(?P<channel>\d{1,2})"
            r"(?:sk(?P<time>\d{1,5}))?(?:fk\d{1,5})?(?:fl\d{1,5})?\.tiff?",
            re.IGNORECASE,
        ),
        metadata=("index.idx.xml", "index.ref.xml", "index.xml"),
        unit="meter",
        root="EvaluationInputData",
        above=True,
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
        real="four exports of MetaXpress, with and without .HTD",
        headers=True,
    ),
    Layout(
        name="hcs-ai",
        title="ImageXpress HCS.ai (MetaXpress Acquire)",
        files=re.compile(
            r"(?:[^/]*/){0,4}?(?:[^/]*_)?t(?P<time>\d{1,5})_(?P<well>[A-Z]{1,2}\d{2})_s(?P<field>\d{1,4})"
            r"_w(?P<channel>\d{1,2})_z(?P<z>\d{1,4})\.(?i:tiff?)",
        ),
        metadata=(".jdce",),
        unit="micrometer",
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
        real="names and index of one CV8000 export, whose pixels are blank",
    ),
    Layout(
        name="cq3k",
        title="Yokogawa CQ1 and CQ3K",
        files=re.compile(
            r"W(?P<well>\d{4})F(?P<field>\d{4})T(?P<time>\d{4})Z(?P<z>\d{3})C(?P<channel>\d{1,2})\.tiff?",
            re.IGNORECASE,
        ),
        metadata=("measurementdata.mlf",),
        unit="micrometer",
    ),
    Layout(
        name="scanr",
        title="Evident (Olympus) scanR",
        files=re.compile(
            r"(?:(?P<named>[A-Z]{1,2}\d{1,2})--)?W(?P<well>\d{5})--P(?P<field>\d{5})--Z(?P<z>\d{5})--T(?P<time>\d{5})"
            r"--(?P<channel>.+)\.tiff?",
            re.IGNORECASE,
        ),
        metadata=("metadata.ome.xml",),
        unit="micrometer",
        shared=True,
    ),
    Layout(
        name="incell",
        title="IN Cell Analyzer",
        files=re.compile(
            r"(?P<row>[A-Z]{1,2}) - (?P<column>\d{1,2})\(fld (?P<field>\d{1,4}) wv (?P<channel>[^()]+?)"
            r"(?: z (?P<z>\d{1,4}))?(?: time (?P<time>\d{1,5})(?: - \d{1,9} ?ms)?)?\)\.tiff?",
            re.IGNORECASE,
        ),
        metadata=(".xdce",),
        unit="micrometer",
    ),
    Layout(name="pattern", title="names that --pattern describes", files=None, metadata=(), unit="none", real="any"),
    Layout(
        name="ome-tiff",
        title="folder of OME-TIFFs, one field or more in each",
        files=None,
        metadata=(),
        unit="as the metadata say",
        real="OME-TIFFs of many writers",
    ),
    Layout(
        name="stacks",
        title="a microscope's own file or a folder of stacks, each file or subfolder of slices a field",
        files=None,
        metadata=(),
        unit="as the metadata say",
        real="ND2 and OIB of microscopes",
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
