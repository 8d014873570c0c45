"""`assess`: whatever is given, a stack, a plate or a result, is told apart here and assessed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from hybridfusion_core.assess.assessment import Assessment, assess_stack
from hybridfusion_core.assess.certificate import Certificate
from hybridfusion_core.assess.finding import Verdict
from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.api import as_stack
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.io.verify import stored_provenance
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.open import open_plate
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.select import Selection, select
from hybridfusion_core.progress import Progress, run_to_end

_WELLS = 6  # of a plate, spread over it
_TILES_OF_A_FIELD = 4


class Assessed:
    """What was found of one input.

    Attributes:
        parts: one `Assessment`; of a plate one for each field that was looked at.
        summary: everything but the pictures, as plain JSON values: `verdict`, `sentence`, `figures`, `warnings`, ….
    """

    def __init__(self, parts: list[Assessment], summary: dict[str, Any]) -> None:
        self.parts, self.summary = parts, summary

    @property
    def verdict(self) -> Verdict:
        """Which method the figures ask for."""
        verdict: Verdict = self.summary["verdict"]
        return verdict

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """Kind, message and figure of everything to be known before the result is used."""
        return list(self.summary["warnings"])

    @property
    def figures(self) -> dict[str, Any]:
        """Figures by name: value, unit, what it should be, and a sentence."""
        return dict(self.summary["figures"])

    @property
    def methods(self) -> str:
        """A paragraph for the Methods of a paper."""
        return str(self.summary["methods"])

    def save(self, page: str | Path, *, overwrite: bool = False) -> None:
        """Write a page of HTML, and `assessment.json` beside it.

        Raises:
            UserInputError: another suffix, or files that may not be written.
        """
        with Certificate(Path(page), overwrite=overwrite) as certificate:
            certificate.write(self.parts, self.summary)


def assess(
    source: Any,
    *,
    stack: Any = None,
    axes: str | None = None,
    z_step_um: float | None = None,
    checksum: bool = False,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Assessed:
    """Say whether fusing is right for a stack, a plate or what was fused.

    Args:
        source: as for `fuse`; or a plate, or a result of `fuse`, whose stack lies beside it.
        stack: what a result was made of, if it lies elsewhere.
        axes: as for `fuse`.
        z_step_um: as for `fuse`.
        checksum: hash all of the input, however large; up to a gibibyte is hashed anyway.
        progress: called now and then.
        **options: fields of `FuseRequest`: how it would be fused.

    Raises:
        UserInputError: there is nothing to assess, or the stack of a result is not found.
        StoredDataError: a file is damaged.
    """
    request = make_request(**options)
    steps = steps_of(source, request, stack=stack, axes=axes, z_step_um=z_step_um, checksum=checksum)
    return run_to_end(steps, progress)


def steps_of(
    source: Any,
    request: FuseRequest,
    *,
    stack: Any = None,
    axes: str | None = None,
    z_step_um: float | None = None,
    checksum: bool = False,
    opened: Callable[[Any], Any] | None = None,
) -> Generator[Progress, None, Assessed]:
    """As `assess`, yielding progress; `opened` opens a path as a `Stack`, if not `open_stack` alone."""

    def as_opened(path: Any) -> Any:
        return as_stack(path, axes=axes, z_step_um=z_step_um) if opened is None else opened(path)

    path = _only_path(source)
    told = {} if path is None or not path.exists() else stored_provenance(path)
    if path is not None and told and "settings" in told:
        return (yield from _of_result(path, told, request, stack, as_opened, checksum=checksum))
    try:
        held = as_opened(source)
    except UserInputError:
        plate = None if path is None else _plate(path)
        if plate is None:
            raise
        return (yield from _of_plate(plate, request, z_step_um))
    with held:
        found = yield from assess_stack(held, request, checksum=checksum)
    return Assessed([found], found.as_json())


def _only_path(source: Any) -> Path | None:
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    return Path(source) if isinstance(source, str | Path) else None


def _plate(path: Path) -> Plate | None:
    try:
        return open_plate(path)
    except HybridFusionError:
        return None


def _of_plate(plate: Plate, request: FuseRequest, z_step_um: float | None) -> Generator[Progress, None, Assessed]:
    fields = {field.well: field for field in reversed(select(plate, Selection(pilot=_WELLS)))}  # the first of each well
    parts, failed = [], []
    for field in reversed(fields.values()):
        try:
            with open_field(field, z_step_um=z_step_um) as stack:
                parts.append((yield from assess_stack(stack, request, tiles=_TILES_OF_A_FIELD)))
        except HybridFusionError as error:
            failed.append(str(error))
    if not parts:
        raise UserInputError(
            f"None of {len(failed)} fields of {plate.name} could be assessed; expected at least one sound field. The "
            "first "
            f"one: {failed[0]}"
        )
    return Assessed(parts, _together(plate.name, parts, failed))


def _together(name: str, parts: list[Assessment], failed: list[str]) -> dict[str, Any]:
    """What a plate's fields say together: a verdict that most of them share, and each kind of warning once."""
    verdicts = Counter(part.verdict for part in parts)
    verdict, count = verdicts.most_common(1)[0]
    if 2 * count <= len(parts):
        verdict = "undecided"
    first = next((part for part in parts if part.verdict == verdict), parts[0])
    warnings = []
    for kind in dict.fromkeys(each["kind"] for part in parts for each in part.warnings):
        told = [(part, each) for part in parts for each in part.warnings if each["kind"] == kind]
        where = len({part.name for part, _ in told})
        message = f"In {where} of {len(parts)} fields, such as {told[0][0].name}: {told[0][1]['message']}"
        warnings.append({"kind": kind, "message": message, "figure": told[0][1]["figure"]})
    fields = [part.as_json() for part in parts]
    return {
        "name": name,
        "verdict": verdict,
        "sentence": f"{count} of {len(parts)} fields that were looked at say so. {first.sentence}",
        "warnings": warnings,
        "figures": first.figures,
        "looked_at": {"fields": [part.name for part in parts], "failed": failed},
        "methods": first.methods,
        "fields": fields,
    }


def _of_result(
    path: Path,
    told: dict[str, Any],
    request: FuseRequest,
    stack: Any,
    opened: Callable[[Any], Any],
    *,
    checksum: bool,
) -> Generator[Progress, None, Assessed]:
    """Assess what a result was made of, as it was made, and tie both together."""
    given = stack if stack is not None else _beside(path, told)
    settings = told["settings"]
    asked = make_request(
        **{
            "focus_from": settings.get("focus_from", request.focus_from),
            "method": settings.get("method", request.method),
            "z": request.z,
            "device": request.device,
            "threads": request.threads,
            "memory": request.memory,
        }
    )
    with opened(given) as held:
        found = yield from assess_stack(held, asked, checksum=checksum)
    found.ties["result"] = {"name": path.name, "sha256": _hash(path)}
    before = [each.get("sha256") or each.get("bytes") for each in told.get("input", [])]
    now = [each.get("sha256") if each.get("sha256") in before else each.get("bytes") for each in found.ties["input"]]
    if before and now and before != now:
        raise UserInputError(
            f"{path.name} was made of {told['input'][0].get('name')} with {told['input'][0].get('bytes')} bytes, and "
            "what lies "
            f"at {given} now has {found.ties['input'][0].get('bytes')}; expected the same file. Name it with --stack."
        )
    return Assessed([found], found.as_json())


def _beside(path: Path, told: dict[str, Any]) -> str | list[str]:
    """The files that a result was made of, if they lie in its folder or in the current one."""
    names = [Path(str(each.get("name", ""))).name for each in told.get("input", [])]
    for folder in (path.absolute().parent, Path.cwd()):
        if names and all(name and (folder / name).exists() for name in names):
            paths = [str(folder / name) for name in names]
            return paths[0] if len(paths) == 1 else paths
    shown = ", ".join(names) or "a stack that it does not name"
    raise UserInputError(
        f"{path.name} is a result, made of {shown}, which lies neither beside it nor in the current folder; expected "
        "the stack, "
        "because figures are measured on it. Name it with --stack (Python: stack=)."
    )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
