"""Yokogawa CV7000, CV8000 and CQ3K: planes that MeasurementData.mlf lists, with positions in µm, errors among them.

MeasurementDetail.mrf beside it has the pixel size, the .mes file that it names the channels. The stage counts y
upwards, see docs/decisions/020.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hybridfusion_core.io.units import axis, number
from hybridfusion_core.plates.layouts.named_planes import matches, read_names, unlisted
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Failure, Findings, Record
from hybridfusion_core.plates.xml_stream import attributes, elements, whole
from hybridfusion_core.stack import Channel

_DETAIL = "measurementdetail.mrf"
_ERROR_TEXT = 200  # characters of what the microscope says


def read_yokogawa(listing: Listing, index: Path | None) -> Findings:
    """Read a Yokogawa plate.

    Args:
        listing: of the folder.
        index: the .mlf file, or None to go by names.

    Raises:
        StoredDataError: the index is damaged.
    """
    cq = any(True for _ in matches(plane_names("cq3k"), listing.images))
    files = plane_names("cq3k" if cq else "yokogawa")
    if index is None:
        return read_names(listing, files, listing.root.name, "C")
    records, projections, failures, actions, skipped = _read_index(listing, index)
    several = {channel for channel, found in actions.items() if len(found) > 1}
    keyed = [
        record._replace(channel=f"{record.channel} A{action}") if record.channel in several else record
        for record, action in records
    ]
    detail, setting, metadata = _describe(listing, index)
    findings = Findings(
        keyed,
        _channels({each.channel for each in keyed}, setting),
        name=detail.get("Name") or detail.get("Title") or listing.root.name,
        index=index.name,
        rows=whole(detail.get("RowCount"), 1, 100) or 0,
        columns=whole(detail.get("ColumnCount"), 1, 100) or 0,
        y=axis(detail.get("VerticalPixelDimension"), "micrometer"),
        x=axis(detail.get("HorizontalPixelDimension"), "micrometer"),
        metadata=(str(index), *metadata),
        warnings=(f"{skipped} records in {index.name} do not say which plane they are; left out.",) if skipped else (),
        failures=tuple(failures),
        projections=tuple(projections),
    )
    # A CQ3K counts wells in the names of its files, where they say nothing of rows and columns.
    return findings if cq else replace(findings, unlisted=unlisted(listing, files, keyed))


def _read_index(
    listing: Listing, index: Path
) -> tuple[list[tuple[Record, str]], list[Record], list[Failure], dict[str, set[str]], int]:
    """Return records with their actions, projections, failures, actions of channels, and how many say too little."""
    beside = listing.folder_of(index)
    aside = {path.rpartition("/")[2]: path for path in listing.aside}
    records: list[tuple[Record, str]] = []
    projections: list[Record] = []
    failures: list[Failure] = []
    actions: dict[str, set[str]] = defaultdict(set)
    skipped = 0
    for name, element in elements(index, frozenset({"MeasurementRecord"})):
        if not name:
            continue
        found, named = attributes(element), (element.text or "").strip()
        row, column = whole(found.get("Row"), 1, 100), whole(found.get("Column"), 1, 100)
        if row is None or column is None:
            skipped += 1
        elif found.get("Type") == "ERR":
            failures.append(_failure(row, column, found, named))
        elif (made := _record(row, column, found, named, listing, beside)) is None:
            skipped += 1
        elif found.get("ZImageProcessing"):
            projections.append(made._replace(file=made.file or aside.get(named.replace("\\", "/").rpartition("/")[2])))
        else:
            action = found.get("ActionIndex", "")
            actions[made.channel].add(action)
            records.append((made, action))
    if not records:  # nothing but projections: they are the planes then
        return [(each, "") for each in projections], [], failures, actions, skipped
    return records, projections, failures, actions, skipped


def _record(
    row: int, column: int, found: Mapping[str, str], named: str, listing: Listing, beside: str
) -> Record | None:
    field, z, channel = (whole(found.get(name)) for name in ("FieldIndex", "ZIndex", "Ch"))
    if field is None or channel is None or not named:
        return None
    y = number(found.get("Y"))
    return Record(
        row - 1,
        column - 1,
        str(field),
        whole(found.get("TimePoint")) or 0,
        str(channel),
        z or 0,
        file=listing.find(named, beside),
        named=named,
        z_um=number(found.get("Z")),
        y_um=None if y is None else 0.0 - y,
        x_um=number(found.get("X")),
    )


def _failure(row: int, column: int, found: Mapping[str, str], text: str) -> Failure:
    field, time, channel = (whole(found.get(name)) for name in ("FieldIndex", "TimePoint", "Ch"))
    return Failure(
        row - 1,
        column - 1,
        None if field is None else str(field),
        time,
        None if channel is None else str(channel),
        f"record of type ERR: {text[:_ERROR_TEXT]!r}" if text else "record of type ERR",
    )


def _describe(listing: Listing, index: Path) -> tuple[dict[str, str], dict[str, dict[str, str]], tuple[str, ...]]:
    """Return what .mrf says of the plate and what .mes says of each channel, and the files that said it."""
    beside = listing.folder_of(index)
    detail: dict[str, str] = {}
    path = _beside(listing, beside, _DETAIL)
    if path is None:
        return {}, {}, ()
    wanted = frozenset({"MeasurementChannel", "MeasurementSamplePlate"})
    for _, element in elements(path, wanted):  # the outermost one has attributes too
        for key, value in attributes(element).items():
            detail.setdefault(key, value)
    setting = _beside(listing, beside, PurePosixPath(detail.get("MeasurementSettingFileName", "")).name)
    if setting is None or setting.suffix.lower() != ".mes":
        return detail, {}, (str(path),)
    found = [attributes(element) for name, element in elements(setting, frozenset({"Channel"})) if name]
    return detail, {each["Ch"]: each for each in found if "Ch" in each}, (str(path), str(setting))


def _beside(listing: Listing, folder: str, name: str) -> Path | None:
    """Return the file of a name, in any case, that was found in a folder of the plate."""
    wanted = str(PurePosixPath(folder) / name).lower()
    return next((listing.root / path for path in listing.others if path.lower() == wanted), None) if name else None


def _channels(keys: Iterable[str], setting: Mapping[str, Mapping[str, str]]) -> dict[str, Channel]:
    described = {}
    for key in keys:
        number_, _, action = key.partition(" ")
        about = setting.get(number_, {})
        kind, color = about.get("Kind", "").lower(), about.get("Color", "").lstrip("#").upper()
        name = about.get("Target") or f"C{int(number_):02d}"
        described[key] = Channel(
            name=f"{name} {action}".strip(),
            # Alpha, red, green, blue.
            color=color[2:] if re.fullmatch("[0-9A-F]{8}", color) else None,
            transmitted=_transmitted(kind),
        )
    return described


def _transmitted(kind: str) -> bool | None:
    if "fluorescence" in kind:
        return False
    return True if "brightfield" in kind or "phase" in kind else None
