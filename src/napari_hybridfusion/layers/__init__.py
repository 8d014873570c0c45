"""Stacks and results as napari layers."""
