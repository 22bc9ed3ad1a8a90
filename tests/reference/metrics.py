"""mAP and AR@AN the slow way: one detection, one threshold, one action at a time."""

import numpy as np


def tiou(start: float, end: float, other_start: float, other_end: float) -> float:
    shared = max(min(end, other_end) - max(start, other_start), 0.0)
    union = (end - start) + (other_end - other_start) - shared
    return shared / union if shared > 0 else 0.0


def average_precision(
    actions: list[tuple], detections: list[tuple], threshold: float, usual: float | None = None
) -> float:
    """AP of one label: actions (video, start, end), detections (video, start, end, score).

    With a usual number of actions N, precision is R N / (R N + F), of the recall R and the false positives F.
    """
    by_score = sorted(range(len(detections)), key=lambda i: (detections[i][3], i), reverse=True)
    taken: set[int] = set()
    precision, recall, hits = [0.0], [0.0], 0
    for seen, i in enumerate(by_score, start=1):
        video, start, end, _ = detections[i]
        overlaps = [(tiou(start, end, *actions[j][1:]), j) for j in range(len(actions)) if actions[j][0] == video]
        for overlap, j in sorted(overlaps, reverse=True):
            if overlap < threshold:
                break
            if j not in taken:
                taken.add(j)
                hits += 1
                break
        as_usual = hits if usual is None else hits / len(actions) * usual
        precision.append(as_usual / (as_usual + seen - hits) if hits else 0.0)
        recall.append(hits / len(actions))
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


def mean_average_precision(
    actions: list[tuple], detections: list[tuple], thresholds: list[float], *, normalised: bool = False
) -> np.ndarray:
    """AP (I, A): actions (video, label, start, end), detections (video, label, start, end, score)."""
    labels = sorted({action[1] for action in actions})
    table = np.zeros((len(thresholds), len(labels)))
    usual = len(actions) / len(labels) if normalised else None
    for column, label in enumerate(labels):
        own_actions = [(video, start, end) for video, name, start, end in actions if name == label]
        own_detections = [(video, s, e, score) for video, name, s, e, score in detections if name == label]
        for i, threshold in enumerate(thresholds):
            table[i, column] = average_precision(own_actions, own_detections, threshold, usual)
    return table


def average_recall(
    actions: list[tuple], proposals: list[tuple], thresholds: list[float], most_proposals: float
) -> tuple[np.ndarray, np.ndarray]:
    """Recall (I, 100) and numbers of proposals (100,); columns as in `mean_average_precision`."""
    videos = sorted({action[0] for action in actions})
    share = most_proposals * len(videos) / len(proposals)
    given = {}
    for video in videos:
        own = [proposal for proposal in proposals if proposal[0] == video]
        order = sorted(range(len(own)), key=lambda i: (own[i][4], i), reverse=True)
        given[video] = [own[i] for i in order][: int(len(own) * share)]
    total = sum(len(own) for own in given.values())
    steps = np.arange(1, 101) / 100 * (most_proposals * len(videos) / total)
    recall = np.zeros((len(thresholds), len(steps)))
    for i, threshold in enumerate(thresholds):
        for j, step in enumerate(steps):
            for video, _, start, end in actions:
                shown = given[video][: min(int(len(given[video]) * step), len(given[video]))]
                recall[i, j] += any(tiou(start, end, p[2], p[3]) >= threshold for p in shown)
    return recall / len(actions), steps * (total / len(videos))
