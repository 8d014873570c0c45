"""ImageXpress: planes whose names say what they are, and the .HTD file that says which there must be.

The .HTD file is text: a quoted key and values, separated by commas, on each line. Positions and pixel sizes stand in
the files themselves, as MetaSeries XML.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.plates.layouts.named_planes import read_names
from hybridfusion_core.plates.layouts.table import plane_names
from hybridfusion_core.plates.listing import Listing
from hybridfusion_core.plates.plane_records import Findings, Record
from hybridfusion_core.plates.xml_stream import whole
from hybridfusion_core.stack import Channel

_LARGEST = 1 << 20  # bytes of an .HTD file
_MOST_PLANES = 10_000_000


def read_imagexpress(listing: Listing, index: Path | None) -> Findings:
    """Read an ImageXpress plate.

    Args:
        listing: of the folder.
        index: the .HTD file, or None to go by names.

    Raises:
        StoredDataError: the .HTD file is damaged.
    """
    found = _without_projections(read_names(listing, plane_names("imagexpress"), listing.root.name, "w"))
    if index is None:
        return found
    entries = _entries(index)
    names = _waves(entries)
    wanted = _expected(entries, names, found, index)
    present = {record[:6] for record in found.records}
    missing = [Record(*key, file=None, named=_called(key)) for key in wanted if key not in present]
    channels = {key: Channel(names[key]) if names.get(key) else channel for key, channel in found.channels.items()}
    for key in {record.channel for record in missing} - channels.keys():
        channels[key] = Channel(names.get(key) or f"w{key}")
    return replace(
        found,
        records=[*found.records, *missing],
        channels=channels,
        index=index.name,
        name=index.name[: -len(".HTD")],
        promised=True,
        rows=whole(_first(entries, "YWells"), 1, 100) or 0,
        columns=whole(_first(entries, "XWells"), 1, 100) or 0,
        metadata=(str(index),),
    )


def _without_projections(found: Findings) -> Findings:
    """Set aside what lies in ZStep_0, unless it is all that there is of a channel: it is then a single plane."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for record in found.records:
        numbers[record.channel].add(record.z)
    records = [each for each in found.records if each.z > 0 or len(numbers[each.channel]) == 1]
    projections = tuple(each for each in found.records if each.z == 0 and len(numbers[each.channel]) > 1)
    if not projections:
        return found
    warning = f"{len(projections)} projections (ZStep_0, or files beside the ZStep folders) are left out."
    return replace(found, records=records, projections=projections, warnings=(*found.warnings, warning))


def _entries(index: Path) -> dict[str, list[str]]:
    with permitted(index):
        size = index.stat().st_size
        content = b"" if size > _LARGEST else index.read_bytes()
    rows = csv.reader(content.decode("utf-8", "replace").splitlines(), skipinitialspace=True)
    entries: dict[str, list[str]] = {}
    try:
        for key, *values in (row for row in rows if row):
            entries.setdefault(key.strip().strip('"'), [value.strip() for value in values])
    except csv.Error:
        entries = {}
    if "HTSInfoFile" not in entries:
        raise StoredDataError(
            f"{index.name} does not begin with HTSInfoFile, or has more than {_LARGEST >> 20} MiB; expected what "
            "MetaXpress writes. It is damaged: copy it again, or move it away to go by the names of the files."
        )
    return entries


def _waves(entries: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the names of the wavelengths that were taken, by their number."""
    count = whole(_first(entries, "NWavelengths"), 1, 99) or 1
    numbers = [str(wave) for wave in range(1, count + 1) if _first(entries, f"WaveCollect{wave}") != "0"]
    return {wave: _first(entries, f"WaveName{wave}") or "" for wave in numbers}


def _expected(
    entries: Mapping[str, Sequence[str]], waves: Mapping[str, str], found: Findings, index: Path
) -> Iterator[tuple[int, int, str, int, str, int]]:
    """Yield row, column, field, time, channel and z of every plane that must be there."""
    numbers: dict[str, set[int]] = defaultdict(set)
    times = {record.time for record in found.records}
    for record in found.records:
        numbers[record.channel].add(record.z)
    deep = _first(entries, "ZSeries").upper() == "TRUE"
    steps = range(1, (whole(_first(entries, "ZSteps"), 1, 9999) or 1) + 1)
    # Some wavelengths are taken at one height only, and the .HTD file does not say which.
    slices = {
        wave: steps if deep and (len(numbers[wave]) > 1 or not numbers[wave]) else sorted(numbers[wave]) or [0]
        for wave in waves
    }
    counted = range(1, (whole(_first(entries, "TimePoints"), 1, 99_999) or 1) + 1)
    expected_times = counted if len(counted) > 1 or not times else sorted(times)
    wells, sites = list(_wells(entries)), _sites(entries)
    total = len(wells) * len(sites) * len(expected_times) * sum(len(each) for each in slices.values())
    if total > _MOST_PLANES:
        raise StoredDataError(
            f"{index.name} promises {total} planes; expected at most {_MOST_PLANES}. It is damaged: copy it again, or "
            "move it away to go by the names of the files."
        )
    for (row, column), site, time, wave in itertools.product(wells, sites, expected_times, slices):
        for z in slices[wave]:
            yield row, column, site, time, wave, z


def _wells(entries: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int]]:
    for row in range(100):
        for column, chosen in enumerate(entries.get(f"WellsSelection{row + 1}", ())[:100]):
            if chosen.upper() == "TRUE":
                yield row, column


def _sites(entries: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the sites: those that are selected are counted from 1."""
    if _first(entries, "Sites").upper() != "TRUE":
        return ["1"]
    rows = (entries.get(f"SiteSelection{row}", ()) for row in range(1, 101))
    selected = sum(value.upper() == "TRUE" for row in rows for value in row)
    grid = math.prod(whole(_first(entries, name), 1, 100) or 1 for name in ("XSites", "YSites"))
    return [str(site) for site in range(1, (selected or grid) + 1)]


def _first(entries: Mapping[str, Sequence[str]], key: str) -> str:
    return next(iter(entries.get(key, ())), "")


def _called(key: tuple[int, int, str, int, str, int]) -> str:
    _, _, site, time, wave, z = key
    return f"site {site} wavelength {wave} time {time} z {z}"
