"""HybridFusion in napari: files become layers and layers become files. The fusion itself is `hybridfusion_core`."""
