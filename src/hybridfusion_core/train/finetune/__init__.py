"""A model adapted to a microscope, from stacks that nobody labelled."""
