"""Slices that do not lie on each other: where each one lies is measured, written down, and taken back."""
