"""An error analysis as tables for the terminal."""

from __future__ import annotations

from ...data.errors import counted
from ...detect.results.diagnosis import Diagnosis, Estimate
from .report import table

NAMES = {
    "double": "double",
    "wrong_label": "wrong label",
    "localisation": "localisation",
    "confusion": "label and localisation",
    "background": "background",
    "missed": "missed action",
}


def diagnosis_text(found: Diagnosis) -> str:
    """Two tables, in per cent: what each kind of error costs, and how well each group of actions is found."""
    first, last = f"{found.tious[0]:g}", f"{found.tious[-1]:g}"
    several = len(found.tious) > 1
    rows = [
        [
            NAMES[name],
            error.counts[0],
            *([error.counts[-1]] if several else []),
            *_cells(error.average_removed),
            *_cells(error.average_corrected),
        ]
        for name, error in found.errors.items()
    ]
    heads = ["error", f"number at {first}", *([f"at {last}"] if several else [])]
    heads += ["removed", "interval", "corrected", "interval"]
    means = f"means over tIoU {first} to {last}" if several else f"at tIoU {first}"
    whole = [" ".join(_cells(each)).removesuffix(" -") for each in (found.average_mAP, found.average_normalised_mAP)]
    lines = [
        f"Diagnosis, {means}: mAP {whole[0]}, mAP_N {whole[1]} %, of {counted(found.num_detections, 'detection')} and "
        f"{counted(found.num_actions, 'action')}.",
        "",
        table(rows, heads=heads),
        "removed, corrected: points of mAP gained if all errors of one kind were gone, or right.",
    ]
    if found.num_unlabelled:
        lines.append(f"{counted(found.num_unlabelled, 'detection')} of no class that an action has: counted nowhere.")
    groups = [
        [
            f"{one.name} {group.name}",
            f"{group.holds} {one.unit}",
            group.num_actions,
            *_cells(group.average_precision),
            f"{100 * group.missed:.1f}",
        ]
        for one in found.sensitivities
        for group in one.groups
    ]
    if groups:
        lines += ["", table(groups, heads=("actions by", "", "count", "mAP_N", "interval", "missed %"))]
    for one in found.sensitivities:
        if not one.groups:
            lines.append(f"By {one.name}: not known, since no video states its duration.")
        elif one.num_unknown:
            lines.append(f"By {one.name}: {counted(one.num_unknown, 'action')} of unknown {one.name} left out.")
    if found.average_mAP.low is not None:
        lines.append(
            f"Intervals hold {100 * found.share:.0f} % of {found.samples} draws of as many videos, with replacement."
        )
    return "\n".join(lines)


def _cells(measured: Estimate) -> tuple[str, str]:
    """Value and interval, in per cent."""
    if measured.low is None or measured.high is None:
        return f"{100 * measured.value:.1f}", "-"
    return f"{100 * measured.value:.1f}", f"[{100 * measured.low:.1f}, {100 * measured.high:.1f}]"
