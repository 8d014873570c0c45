"""HybridFusion in napari: files become layers and layers become files. The fusion itself is `hybridfusion_core`.

For scripts and notebooks: `fuse_layer` and `show_result`. Importing this package imports neither napari nor torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
