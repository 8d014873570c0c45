"""Methods scored on stacks, with or without truth.

Classical methods are given what no user has: for each stack and each figure the best of several smoothing windows,
hard or soft, chosen with the truth in hand. A lead over that is a lead over all of them.
"""
