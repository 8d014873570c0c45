"""A task for Fractal: focal stacks of an OME-Zarr plate become fused images of the same plate."""
