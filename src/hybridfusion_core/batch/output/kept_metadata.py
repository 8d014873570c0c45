"""What the metadata of an OME-Zarr plate say that is not ours to say: kept as it is, beside what we write.

`wavelength_id`, by which Fractal's tasks choose channels, `coefficient`, `family` and `inverted` of a channel; dates
and descriptions of an acquisition. Only small values are taken, since the file is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.io.zarr.source import source_of
from hybridfusion_core.plates.plate import Plate

_LARGEST = 1 << 14  # characters of one value as JSON
_MOST = 64  # values of one channel or acquisition

Json = Mapping[str, Any]


class KeptMetadata:
    """Reads what an input plate says, once for each image.

    Args:
        plate: that is fused; only OME-Zarr has anything to keep.
        images: path of the image of each field inside it, by any key.
    """

    def __init__(self, plate: Plate, images: Mapping[Any, str]) -> None:
        self._source = source_of(plate.folder) if plate.layout == "ome-zarr" else None
        self._images = images
        self._channels: dict[Any, Sequence[Json]] = {}

    def acquisitions(self) -> dict[int, Json]:
        """Return what the plate says of its acquisitions, by their ids."""
        plate = self._attributes("").get("plate")
        listed = plate.get("acquisitions") if isinstance(plate, Mapping) else None
        return {
            each["id"]: _plain(each)
            for each in (listed if isinstance(listed, Sequence) else ())
            if isinstance(each, Mapping) and isinstance(each.get("id"), int)
        }

    def with_channels(self, key: Any, chosen: Sequence[int], attributes: dict[str, Any]) -> dict[str, Any]:
        """Add to the channels of a fused image what those of its input said.

        Args:
            key: of the field.
            chosen: indices of the channels that were fused.
            attributes: of the group of the image; changed in place.
        """
        known = self._known(key)
        written = attributes.get("ome", attributes).get("omero", {}).get("channels", ())
        if len(written) == len(chosen) and (not chosen or max(chosen) < len(known)):
            for channel, index in zip(written, chosen, strict=True):
                for name, value in known[index].items():
                    channel.setdefault(name, value)
        return attributes

    def _known(self, key: Any) -> Sequence[Json]:
        if key not in self._channels:
            omero = self._attributes(self._images[key]).get("omero") if key in self._images else None
            listed = omero.get("channels") if isinstance(omero, Mapping) else None
            listed = listed if isinstance(listed, Sequence) else ()
            self._channels[key] = [_plain(each) if isinstance(each, Mapping) else {} for each in listed]
        return self._channels[key]

    def _attributes(self, inside: str) -> Json:
        """Return what a group says by OME-NGFF; nothing if it cannot be read, which is told elsewhere."""
        if self._source is None or (inside and not self._source.holds(inside)):
            return {}
        before = f"{inside}/" if inside else ""
        try:
            stored = self._source.read(f"{before}zarr.json")
            found = json.loads(stored).get("attributes") if stored is not None else None
            if not isinstance(found, Mapping):
                found = json.loads(self._source.read(f"{before}.zattrs") or b"{}")
        except (HybridFusionError, OSError, ValueError, AttributeError):
            return {}
        inner = found.get("ome") if isinstance(found, Mapping) else None
        result = inner if isinstance(inner, Mapping) else found
        return result if isinstance(result, Mapping) else {}


def _plain(stored: Json) -> Json:
    kept = {str(name): value for name, value in list(stored.items())[:_MOST]}
    return {name: value for name, value in kept.items() if len(json.dumps(value, default=str)) <= _LARGEST}
