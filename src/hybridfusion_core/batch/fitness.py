"""Whether a worker can take part: asked before its first task, and once more by the task itself.

A worker may join at any time, with another version of this program, without the drive that the plate is on, or with
another file under the name of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hybridfusion_core.batch.records.store import in_session
from hybridfusion_core.batch.task import Settings
from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.io.zarr.source import METADATA_FILES, UrlSource, is_url, reached
from hybridfusion_core.model.devices import resolve_device

_FIT: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()  # what this process was found fit for


def unfit(settings: Settings, inputs: str) -> str | None:
    """Say why this process cannot take part, or nothing; once it is fit for a run, it is not asked again.

    Args:
        settings: of the run; without models when nothing is resolved yet.
        inputs: folder or URL of the plate.
    """
    known = (settings.session, inputs, settings.models)
    if known in _FIT:
        return None
    reason = next(_hindrances(settings, inputs), None)
    if reason is None:
        _FIT.add(known)
    return reason


def examined(settings: Settings, inputs: str) -> str | None:
    """Say why this process cannot take part in a run that has just begun, or nothing.

    Args:
        settings: of the run; without models when nothing is resolved yet.
        inputs: folder or URL of the plate.
    """
    if not in_session(settings.paths, settings.session):
        return f"it does not see what was just written to {settings.paths.folder}"
    return unfit(settings, inputs)


def _hindrances(settings: Settings, inputs: str) -> Iterator[str]:
    paths = settings.paths
    if settings.algorithm != ALGORITHM_VERSION:
        yield f"it has version {ALGORITHM_VERSION} of the algorithm, not {settings.algorithm}"
    if not _sees(inputs):
        yield f"it does not see the plate {inputs}"
    if not paths.folder.is_dir():
        yield f"it does not see {paths.folder}"
    try:
        resolve_device(settings.request.device)
        if settings.models:  # classical methods need none, and importing takes seconds
            from hybridfusion_core.model.model_file import load_model  # noqa: PLC0415
        for name, sha256 in settings.models:
            asked = name if settings.request.model == "auto" else settings.request.model
            if load_model(asked).sha256 != sha256:
                yield f"its model {name} is another one than when this plate was begun"
    except HybridFusionError as error:
        yield str(error)


def _sees(inputs: str) -> bool:
    if not is_url(inputs):
        return Path(inputs).exists()
    try:
        with reached(inputs):
            source = UrlSource(inputs)
            return any(source.read(name) is not None for name in METADATA_FILES)
    except HybridFusionError:
        return False
