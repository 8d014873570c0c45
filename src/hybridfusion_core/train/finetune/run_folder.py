"""What a fine-tuning keeps beside its model: its state, its best weights, and what it has measured. Nothing else grows.

State is read as what a stranger may have changed: no pickle, and nothing large.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hybridfusion_core.errors import StoredDataError, UserInputError
from hybridfusion_core.io.disk.access import guarded
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.train.finetune.request import FinetuneRequest

_FORMAT = 1
_LARGEST_RECORD, _LARGEST_STATE = 1 << 20, 256 << 20  # bytes
_ANYWHERE = ("device", "threads", "overwrite")  # of a request: they may change when it is resumed


@dataclass(frozen=True)
class RunFolder:
    """Paths in the folder NAME.finetune, and how they are written and read."""

    path: Path

    @property
    def state(self) -> Path:
        """To go on from."""
        return self.path / "state.pt"

    @property
    def best(self) -> Path:
        """The best weights so far, a model of their own."""
        return self.path / "best.safetensors"

    @property
    def picture(self) -> Path:
        """A held-out stack as it is fused now."""
        return self.path / "live.png"

    @property
    def report(self) -> Path:
        """What changed, to read."""
        return self.path / "report.html"

    def begin(self, request: FinetuneRequest, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make the folder, or find what was begun in it by the same request.

        Args:
            request: of this fine-tuning.
            fields: what it trains on and holds out, plain JSON values.

        Returns:
            The state to go on from, or None to begin.

        Raises:
            UserInputError: the folder holds another fine-tuning, and it was not to be overwritten.
            StoredDataError: its record or state is damaged.
        """
        wanted = {"format": _FORMAT, "request": _request(request), "fields": dict(fields)}
        found = self._record()
        if found is not None and not found.get("done") and all(found.get(key) == wanted[key] for key in wanted):
            return self._load()
        if self.path.exists() and not request.overwrite:
            what = "a finished fine-tuning" if found is not None and found.get("done") else "another fine-tuning"
            raise UserInputError(
                f"{self.path} holds {what} ({_difference(found, wanted)}); expected a folder of this one, or none. "
                "Give another name with -o, or begin anew with --overwrite."
            )
        if found is None and self.path.exists() and any(self.path.iterdir()):
            raise UserInputError(
                f"{self.path} is there and not of our making; expected a folder with a run.json, or none. Move it away."
            )
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self._write(wanted)
        return None

    def finish(self, **more: Any) -> None:
        """Write down that it is done, and let go of the state."""
        self._write({**(self._record() or {}), "done": True, **more})
        self.state.unlink(missing_ok=True)

    def keep(self, state: Mapping[str, Any]) -> None:
        """Write a state, whole or not at all."""
        stream = io.BytesIO()
        torch.save(dict(state), stream)
        write_whole(self.state, stream.getvalue())

    def _load(self) -> dict[str, Any] | None:
        if not self.state.exists():
            return None
        cure = "the state of a fine-tuning. Begin anew with --overwrite."
        if self.state.stat().st_size > _LARGEST_STATE:
            raise StoredDataError(f"{self.state} is larger than any state of ours; expected {cure}")
        with guarded(f"{self.state} cannot be read", cure):
            found = torch.load(self.state, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or set(found) != {"course", "parts"}:
            raise StoredDataError(f"{self.state} is no state of ours; expected {cure}")
        return found

    def _record(self) -> dict[str, Any] | None:
        path = self.path / "run.json"
        if not path.exists():
            return None
        with guarded(f"{path} cannot be read", "a record of a fine-tuning. Begin anew with --overwrite."):
            text = path.read_text(encoding="utf-8") if path.stat().st_size <= _LARGEST_RECORD else ""
            found = json.loads(text)
        return found if isinstance(found, dict) else None

    def _write(self, record: Mapping[str, Any]) -> None:
        write_whole(self.path / "run.json", json.dumps(record, indent=1, sort_keys=True).encode())


def _request(request: FinetuneRequest) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(request)))
    return {key: value for key, value in plain.items() if key not in _ANYWHERE}


def _difference(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    if found is None:
        return "without a record"
    before = found.get("request")
    before = before if isinstance(before, dict) else {}
    named = [key for key, value in wanted["request"].items() if before.get(key) != value]
    return f"it differs in {', '.join(named)}" if named else "its stacks have changed"
