"""The error analysis the slow way: one threshold, one detection, one action at a time, lists of tuples throughout.

Actions are (video, label, start, end), detections (video, label, start, end, score).
"""

from .metrics import tiou

BACKGROUND_TIOU = 0.1


def matched(actions: list[tuple], detections: list[tuple], threshold: float) -> dict[int, int]:
    """Which detection takes which action."""
    by_score = sorted(range(len(detections)), key=lambda i: (detections[i][4], i), reverse=True)
    takes: dict[int, int] = {}
    for i in by_score:
        video, label, start, end, _ = detections[i]
        near = [
            (tiou(start, end, *action[2:]), j)
            for j, action in enumerate(actions)
            if action[:2] == (video, label) and j not in takes.values()
        ]
        if near and max(near)[0] >= threshold:
            takes[i] = max(near)[1]
    return takes


def nearest(actions: list[tuple], detection: tuple, *, own: bool) -> tuple[float, int]:
    """The action of its video, of its own label or of others, that a detection overlaps most."""
    video, label, start, end, _ = detection
    near = [
        (tiou(start, end, *action[2:]), j)
        for j, action in enumerate(actions)
        if action[0] == video and (action[1] == label) == own
    ]
    return max(near, default=(0.0, -1))


def kind_of(actions: list[tuple], detection: tuple, threshold: float) -> str:
    """What a detection is that takes no action."""
    own, other = nearest(actions, detection, own=True)[0], nearest(actions, detection, own=False)[0]
    if own >= threshold:
        return "double"
    if other >= threshold:
        return "wrong_label"
    if own >= min(BACKGROUND_TIOU, threshold):
        return "localisation"
    return "confusion" if other >= min(BACKGROUND_TIOU, threshold) else "background"


def ap_of(hits: list[bool], num_actions: int, usual: float | None = None) -> float:
    """AP of hits and misses in order."""
    precision, found = [], 0
    for seen, hit in enumerate(hits, start=1):
        found += hit
        scaled = found if usual is None else found / num_actions * usual
        precision.append(scaled / (scaled + seen - found) if found else 0.0)
    return sum(max(precision[place:]) for place, hit in enumerate(hits) if hit) / num_actions


def map_of(rows: list[tuple], counts: dict[int, int], usual: float | None = None, *, missed: bool = False) -> float:
    """Mean AP of (score, number, label, is hit) rows; labels without an action are left out, or judged as missed."""
    values = []
    for label, count in counts.items():
        own = [hit for _, _, of, hit in sorted(rows, key=lambda row: row[:2], reverse=True) if of == label]
        if count:
            values.append(ap_of(own, count, usual))
        elif missed:
            values.append(float(not own))
    return sum(values) / len(values)


def diagnose(actions: list[tuple], detections: list[tuple], threshold: float) -> dict:
    """Everything at one threshold: counts, gains where a kind is removed or corrected, shares of the profile."""
    labels = sorted({action[1] for action in actions})
    counts = {label: sum(action[1] == label for action in actions) for label in labels}
    detections = [row for row in detections if row[1] in counts]
    takes = matched(actions, detections, threshold)
    kinds = ["hit" if i in takes else kind_of(actions, detection, threshold) for i, detection in enumerate(detections)]

    def rows(changed: dict[int, tuple[int, bool]]) -> list[tuple]:
        """(score, number, label, is hit) of all detections, but of those that are gone: label -1."""
        plain = {i: (row[1], i in takes) for i, row in enumerate(detections)} | changed
        return [(detections[i][4], i, *value) for i, value in plain.items() if value[0] >= 0]

    base = map_of(rows({}), counts)
    result = {"mAP": base, "counts": {}, "removed": {}, "corrected": {}}
    for kind in ("double", "wrong_label", "localisation", "confusion", "background"):
        of_kind = [i for i in range(len(detections)) if kinds[i] == kind]
        result["counts"][kind] = len(of_kind)
        gone = {i: (-1, False) for i in of_kind}
        result["removed"][kind] = map_of(rows(gone), counts) - base
        if kind in ("wrong_label", "localisation", "confusion"):
            done = set(takes.values())
            for i in sorted(of_kind, key=lambda i: (detections[i][4], i), reverse=True):
                target = nearest(actions, detections[i], own=kind == "localisation")[1]
                if target not in done:
                    done.add(target)
                    gone[i] = (actions[target][1], True)
        result["corrected"][kind] = map_of(rows(gone), counts) - base
    left = {label: sum(actions[j][1] == label for j in takes.values()) for label in labels}
    result["counts"]["missed"] = len(actions) - len(takes)
    result["corrected"]["missed"] = result["removed"]["missed"] = map_of(rows({}), left, missed=True) - base

    result["profile"] = []
    for times in range(1, 11):
        best = []
        for label in labels:
            own = sorted(
                (i for i, row in enumerate(detections) if row[1] == label), key=lambda i: (detections[i][4], i)
            )
            best += own[::-1][: times * counts[label]]
        names = ("hit", "double", "wrong_label", "localisation", "confusion", "background")
        result["profile"].append([sum(kinds[i] == name for i in best) / len(best) for name in names])
    return result


def precision_of_group(
    actions: list[tuple], detections: list[tuple], threshold: float, chosen: list[int]
) -> tuple[float, float]:
    """mAP_N of some actions alone, and the share of them that is missed; hits of the others are left out."""
    labels = sorted({action[1] for action in actions})
    takes = matched(actions, detections, threshold)
    counts = {label: sum(actions[j][1] == label for j in chosen) for label in labels}
    rows = [
        (row[4], i, row[1], i in takes)
        for i, row in enumerate(detections)
        if row[1] in counts and (i not in takes or takes[i] in chosen)
    ]
    missed = sum(j not in takes.values() for j in chosen) / len(chosen)
    return map_of(rows, counts, usual=len(actions) / len(labels)), missed
