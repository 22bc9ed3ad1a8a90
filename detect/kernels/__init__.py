"""What is there for speed alone, behind six functions: all that the rest of the code may know of it.

Each of them that computes otherwise than plain PyTorch would takes `kernels`, `fast` or `reference`.
"""

from .batch_parts import run_in_parts
from .evaluation import evaluate_heads, roi_align, roi_mean
from .threads import map_parallel, one_thread

__all__ = ["evaluate_heads", "map_parallel", "one_thread", "roi_align", "roi_mean", "run_in_parts"]
