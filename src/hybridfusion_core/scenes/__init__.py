"""Simulated stacks whose truth is known: specimens, optics, cameras, samples.

Everything random comes from the `torch.Generator` that is handed in, so a seed is a data set. `docs/synthesis.md`
shows the kinds of scenes and says what is true about them.
"""
