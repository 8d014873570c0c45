"""Measures of a fused image, its heights and its confidence; each a pure function."""
