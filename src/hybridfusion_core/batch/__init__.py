"""Fuse every field of a plate: what a task does, who runs the tasks, and the plate, records and report they leave."""
