"""How the libraries that compute are set while a job runs, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hybridfusion_core.fusion.job import Job
from hybridfusion_core.model.devices import OPENVINO, TORCH
from hybridfusion_core.model.threads import one_blas_thread, thread_count

if TYPE_CHECKING:  # PyTorch takes seconds to import, and OpenVINO need not be installed
    from hybridfusion_core.model.openvino.runtime import CompiledNetwork
    from hybridfusion_core.model.parameters import Parameters


@contextmanager
def device_settings(job: Job) -> Iterator[None]:
    """Run a job where and how it says."""
    with ExitStack() as settings:
        settings.enter_context(one_blas_thread())
        if job.runtime.package == TORCH:
            settings.enter_context(torch_threads(thread_count(job.request.threads)))
            if job.device.startswith("cuda"):
                settings.enter_context(full_float32())
        for model in job.models:
            if job.runtime.package == OPENVINO:
                settings.callback(compiled_network(job, model.parameters).release)
            else:
                model.network.to(job.device)
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads on the CPU."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_float32() -> Iterator[None]:
    """Let float32 mean float32 on CUDA, not TF32, whose mantissa has 10 bits as that of float16."""
    import torch

    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


def compiled_network(job: Job, weights: Parameters) -> CompiledNetwork:
    """Return what OpenVINO made of a network; compiled once."""
    from hybridfusion_core.model.openvino.runtime import compiled  # which need not be installed

    return compiled(weights, job.request.precision, job.request.threads)
