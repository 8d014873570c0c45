"""Fuse focal stacks into one sharp image, with the decision mask, height and confidence that explain it.

Everything is imported on first use: importing this package imports neither torch nor zarr.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
