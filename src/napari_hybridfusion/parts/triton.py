"""Keep the LLVM inside Triton, PyTorch's compiler, apart from the one inside Mesa, the graphics driver of most Linux.

Mesa makes its LLVM's symbols known to the whole process. Triton, which the network's libraries import if it is there,
then calls into the wrong LLVM and the process dies with a segmentation fault (seen with Mesa 22.3 and triton 3,
whenever a canvas was on the screen first). On Linux a library can be told to look into itself first.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module


def load_triton_apart() -> None:
    """Load Triton so that it uses its own LLVM; to be called before the network's libraries are imported."""
    if not sys.platform.startswith("linux") or "triton" in sys.modules:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):
            import_module("triton")
    finally:
        sys.setdlopenflags(flags)
