"""What a GPU computes with is what a CPU computes with: PyTorch's tensors stand in for those of a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import textured_stack

import hybridfusion_core as hf
from hybridfusion_core.fusion.api import steps_in_memory
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.model.devices import TORCH, Runtime
from hybridfusion_core.progress import run_to_end

STAND_IN = "cpu:0"  # for PyTorch the CPU, and for us a device on which nothing is NumPy's


@pytest.mark.parametrize(
    "options",
    [
        {"method": "tenengrad"},
        {"method": "laplacian", "select": "hard"},
        {"method": "tenengrad", "nan": "ignore"},
        {"method": "tenengrad", "slab": "3:1"},
        {"method": "network"},
    ],
    ids=str,
)
def test_tensors_give_what_arrays_give(options: dict[str, str], tiny_model: str) -> None:
    counts = textured_stack((5, 70, 90), "float32" if "nan" in options else "uint16")
    if "nan" in options:
        counts[1, 20:30, 20:30], counts[:, 5, 5] = np.nan, np.inf
    stack = hf.Stack.from_array(counts, z_step_um=1.0)
    request = make_request(**options, model=tiny_model, device="cpu", tile=64, products=tuple(PRODUCTS))
    job = resolve(request, stack)
    arrays = run_to_end(steps_in_memory(job, stack), None).arrays
    tensors = run_to_end(steps_in_memory(replace(job, device=STAND_IN, runtime=Runtime(TORCH)), stack), None).arrays
    assert (arrays["decision"] == tensors["decision"]).mean() > 0.999
    for name in ("fused", "maps"):
        difference = np.abs(arrays[name].astype(float) - tensors[name].astype(float))
        scale = 1.0 if name == "maps" else float(np.nanmax(counts[np.isfinite(counts)]))
        assert np.nanquantile(difference, 0.999) <= 1e-4 * scale, name
        np.testing.assert_array_equal(np.isnan(arrays[name]), np.isnan(tensors[name]))
