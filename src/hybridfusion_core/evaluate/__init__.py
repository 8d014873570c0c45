"""Score ways to fuse against a known truth, against each other, and against other programs' results.

Classical methods are given what no user has: for each stack and each figure the best of several smoothing windows,
hard or soft, chosen with the truth in hand. A lead over that is a lead over all of them.
"""

from hybridfusion_core.evaluate.run import evaluate_cases, evaluate_folder, evaluate_methods
from hybridfusion_core.evaluate.tables import Evaluation

__all__ = ["Evaluation", "evaluate_cases", "evaluate_folder", "evaluate_methods"]
