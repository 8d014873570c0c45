"""What the groups of an OME-Zarr plate and its wells say (0.4 and 0.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yaozarrs import v04, v05

from hybridfusion_core.io.zarr.ngff_writing import Ngff, attributes_of


def plate_attributes(
    name: str,
    rows: Sequence[str],
    columns: Sequence[str],
    wells: Sequence[tuple[str, str]],
    *,
    fields: int,
    acquisitions: Mapping[int, str] | None = None,
    ngff: Ngff = "0.5",
) -> dict[str, Any]:
    """Return the attributes of the group of a plate.

    Args:
        name: of the plate.
        rows: names of all rows, letters and digits only.
        columns: names of all columns, letters and digits only.
        wells: row and column of each well that has images; its group is ROW/COLUMN.
        fields: the most that a well has.
        acquisitions: names of the runs of the microscope by their id.
        ngff: version to write.
    """
    plate: dict[str, Any] = {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            for row, column in wells
        ],
        "field_count": fields,
    }
    if ngff == "0.4":
        plate["version"] = ngff
    if acquisitions:
        plate["acquisitions"] = [{"id": key, "name": title} for key, title in acquisitions.items()]
    return _versioned(attributes_of((v04 if ngff == "0.4" else v05).Plate, {"plate": plate}, ngff), "plate", ngff)


def well_attributes(fields: Mapping[str, int | None], ngff: Ngff = "0.5") -> dict[str, Any]:
    """Return the attributes of the group of a well.

    Args:
        fields: the acquisition of each field, or None, by the name of its group.
        ngff: version to write.
    """
    images = [
        {"path": name} | ({} if acquisition is None else {"acquisition": acquisition})
        for name, acquisition in fields.items()
    ]
    return _versioned(
        attributes_of((v04 if ngff == "0.4" else v05).Well, {"well": {"version": ngff, "images": images}}, ngff),
        "well",
        ngff,
    )


def _versioned(attributes: dict[str, Any], kind: str, ngff: Ngff) -> dict[str, Any]:
    """State the version in the plate or well too: yaozarrs drops it in 0.5, ome-zarr-models asks for it."""
    attributes.get("ome", attributes)[kind]["version"] = ngff
    return attributes
