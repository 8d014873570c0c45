"""What a task changes in the process of a worker is given back when the last task ends."""

import zarr

from hybridfusion_core.batch.preparation import prepared
from hybridfusion_core.model.threads import thread_count


def test_threads_and_settings_are_given_back() -> None:
    before = thread_count(), zarr.config.get("async.concurrency")
    wanted = before[0] + 1
    with prepared(wanted):
        assert thread_count() == wanted
        with prepared(wanted):
            pass
        assert thread_count() == wanted  # the other task still runs
    assert (thread_count(), zarr.config.get("async.concurrency")) == before
