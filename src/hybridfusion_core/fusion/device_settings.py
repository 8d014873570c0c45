"""How PyTorch is set while a job runs, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from hybridfusion_core.fusion.job import Job
from hybridfusion_core.model.devices import OPENVINO, limited_threads

if TYPE_CHECKING:  # the network's libraries take seconds to import, and OpenVINO need not be installed
    from hybridfusion_core.model.network import HybridFusionNet
    from hybridfusion_core.model.openvino.runtime import CompiledNetwork


@contextmanager
def device_settings(job: Job) -> Iterator[None]:
    """Run a job's networks where and how it says."""
    with ExitStack() as settings:
        settings.enter_context(limited_threads(job.request.threads))
        if job.device.type == "cuda":
            settings.enter_context(full_float32())
        for model in job.models:
            model.network.to(job.device)
            if job.runtime.package == OPENVINO:
                settings.callback(compiled_network(job, model.network).release)
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Let float32 mean float32 on CUDA, not TF32, whose mantissa has 10 bits as that of float16."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


def compiled_network(job: Job, network: HybridFusionNet) -> CompiledNetwork:
    """Return what OpenVINO made of a network; compiled once."""
    from hybridfusion_core.model.openvino.runtime import compiled  # noqa: PLC0415 - which need not be installed

    return compiled(network, job.request.precision, job.request.threads)
