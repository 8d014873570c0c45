"""Pixels in and pixels out: stacks from files, results into files. It knows no network."""
