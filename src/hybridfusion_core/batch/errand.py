"""A call that is sent to a worker so that only the worker needs this package, and not the scheduler in between.

A scheduler reads what it passes on. The call travels as bytes with a function of its own that Dask sends as code, so
that a scheduler without the package passes it on all the same, and a worker without it fails with an ImportError in the
task, not while it reads the message.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from distributed import Client, Future


def send(
    client: Client, workers: Sequence[str], function: Callable[..., Any], *arguments: Any, priority: int = 0
) -> Future[Any]:
    """Have one of some workers call a function.

    Args:
        client: connected.
        workers: addresses of those that may.
        function: known by its name on the worker.
        *arguments: small.
        priority: the higher ones first.
    """
    payload = pickle.dumps((function, arguments))

    # Defined here, it has no name that could be looked up: Dask sends the code itself.
    def call(sent: bytes) -> Any:
        import pickle  # noqa: PLC0415

        known, values = pickle.loads(sent)  # noqa: S301  (what this program sent)
        return known(*values)

    # Every task has its own key: the same call may be sent again.
    return client.submit(call, payload, workers=list(workers), pure=False, priority=priority)
