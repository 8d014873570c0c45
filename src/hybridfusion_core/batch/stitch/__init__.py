"""Whole wells: fused fields placed side by side, and blended into one image."""
