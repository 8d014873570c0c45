"""What training asks of the network: pure terms, and presets that say how much each counts.

`supervised` compares with the truth of synthetic stacks, `image` with the slices themselves, `mask` looks at the
focus posterior alone. `targets` makes the image that the slices' own sharpness asks for. `presets` adds the
unsupervised terms up; formulas, sources and pictures are in docs/losses.md. The weights of the supervised terms
live in the recipe.
"""
