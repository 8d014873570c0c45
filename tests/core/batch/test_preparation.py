"""What a task changes in the process of a worker is given back when the last task ends."""

import torch
import zarr

from hybridfusion_core.batch.preparation import prepared


def test_threads_and_settings_are_given_back() -> None:
    before = torch.get_num_threads(), zarr.config.get("async.concurrency")
    wanted = before[0] + 1
    with prepared(wanted):
        assert torch.get_num_threads() == wanted
        with prepared(wanted):
            pass
        assert torch.get_num_threads() == wanted  # the other task still runs
    assert (torch.get_num_threads(), zarr.config.get("async.concurrency")) == before
