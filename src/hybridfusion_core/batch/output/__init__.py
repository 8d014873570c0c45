"""The fused plate on disk, in each of its formats."""
