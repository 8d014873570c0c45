"""Whether fusing is right for the stack, measured beside the window and said in words."""

from __future__ import annotations

from collections.abc import Generator

from hybridfusion_core.assess.assessment import Assessment, assess_stack
from hybridfusion_core.progress import Progress
from napari_hybridfusion.job.task import Task


def assessing(task: Task) -> Generator[Progress, None, Assessment]:
    """Assess the stack of a task as it would be fused.

    Returns:
        (on exhaustion) the `Assessment`.
    """
    return (yield from assess_stack(task.source.stack, task.job.request))


def assessment_text(found: Assessment) -> str:
    """Say the verdict and the warnings, one on a line."""
    warned = [f"• {each['message']}" for each in found.warnings] or ["Nothing to warn of."]
    return "\n".join([f"{found.verdict}: {found.sentence}", *warned])
