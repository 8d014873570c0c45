"""`hybridfusion assess`: figures, warnings and a verdict, and the certificate if a page is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hybridfusion_core.assess.api import steps_of
from hybridfusion_core.assess.certificate import Certificate
from hybridfusion_core.cli.progress import ProgressLine
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack


def command(options: argparse.Namespace, opened: Callable[[argparse.Namespace], Stack]) -> tuple[dict[str, Any], str]:
    """Assess what was named.

    Args:
        options: as they were typed.
        opened: opens what `options.input` names.

    Returns:
        The summary as plain JSON values, and as text.
    """
    request = make_request(
        focus_from=options.focus_from,
        z=options.z,
        model=options.model,
        device=options.device,
        memory=options.memory,
        threads=options.threads,
    )

    def as_stack(path: Any) -> Stack:
        paths = list(path) if isinstance(path, list | tuple) else [path]
        return opened(argparse.Namespace(**{**vars(options), "input": [str(each) for each in paths]}))

    with ExitStack() as claimed, ProgressLine("tiles") as line:
        page = options.output and claimed.enter_context(Certificate(Path(options.output), overwrite=options.overwrite))
        source = options.input if len(options.input) > 1 else options.input[0]
        steps = steps_of(
            source,
            request,
            stack=options.stack,
            z_step_um=options.z_step,
            checksum=options.checksum,
            opened=as_stack,
        )
        found = run_to_end(steps, lambda step: line.update(step.stage, step.done, step.total))
        if page:
            page.write(found.parts, found.summary)
    return found.summary, _text(found.summary)


def _text(summary: dict[str, Any]) -> str:
    lines = [f"{summary['name']}: {summary['verdict']}. {summary['sentence']}"]
    lines += [f"  warning ({each['kind']}): {each['message']}" for each in summary["warnings"]]
    lines += [f"  {each['sentence']}" for each in summary["figures"].values()]
    return "\n".join(lines)
