"""What is measured of a fused field while its pixels are at hand: figures, flags, a small picture."""
