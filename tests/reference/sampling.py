"""The samplers the slow way: every distance, every subset, every cell of the map."""

import itertools
import math

import numpy as np


def fps(points: np.ndarray, count: int, start: int) -> list[int]:
    """Farthest points, all distances computed anew at each pick; the first row among equals."""
    picks = [start]
    while len(picks) < count:
        apart = [
            -1.0 if i in picks else min(float(((points[i] - points[j]) ** 2).sum()) for j in picks)
            for i in range(len(points))
        ]
        picks.append(apart.index(max(apart)))
    return picks


def kdpp_probabilities(factor: np.ndarray, count: int, jitter: float) -> dict[tuple[int, ...], float]:
    """Probability of every set of `count` rows, from the determinants themselves."""
    kernel = factor @ factor.T + jitter * np.eye(len(factor))
    sets = list(itertools.combinations(range(len(factor)), count))
    weights = [max(float(np.linalg.det(kernel[np.ix_(chosen, chosen)])), 0.0) for chosen in sets]
    return {chosen: weight / sum(weights) for chosen, weight in zip(sets, weights)}


def grid(num_snippets: int, max_duration: int, ratio: float) -> list[tuple[int, int]]:
    """Start and duration of the cells on the grid, in the lattice's order."""
    step = math.sqrt(1 / ratio)
    durations = {round(1 + i * step) for i in range(max_duration) if 1 + i * step < max_duration}
    starts = {round(1 + i * step) for i in range(num_snippets) if 1 + i * step < num_snippets}
    return [
        (start, index + 1)
        for index in range(max_duration)
        for start in range(num_snippets - index)
        if index in durations and start in starts
    ]
