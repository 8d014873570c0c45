"""Images on disk: stacks come in through `open_stack`, results go out through `create_output`."""

from hybridfusion_core.store.creating import create_output
from hybridfusion_core.store.ngff_writing import Ngff
from hybridfusion_core.store.opening import open_stack
from hybridfusion_core.store.result import MapChannel, Output, ResultSpec
from hybridfusion_core.store.verify import verify

__all__ = ["MapChannel", "Ngff", "Output", "ResultSpec", "create_output", "open_stack", "verify"]
