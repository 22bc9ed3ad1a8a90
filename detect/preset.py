"""Everything that differs between `paper`, which follows the text, and `release`, which follows the released model."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LossRules:
    """What of the loss differs (method, section 3).

    Parameters
    ----------
    sampled_negatives
        Classification negatives are sampled, not balanced.
    released_ratio
        Keep the release's formula where positives outnumber the set sampled from: every entry passes.
    proposal_boundary_weight
        Weight of the proposals' startness and endness loss.
    """

    sampled_negatives: bool
    released_ratio: bool
    proposal_boundary_weight: float


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The choices of one preset.

    Parameters
    ----------
    roi_bins
        R, where the settings name none.
    scores_boundaries
        A proposal's score includes its startness and endness, where the settings do not say.
    takes_bfloat16
        Products over proposals may be of bfloat16.
    resizes_from_float16
        Features are rounded to float16 before they are resized.
    loses_last
        Soft-NMS loses the last proposal.
    reports_reversed
        Segments that refinement reversed or that clipping emptied are reported all the same.
    """

    roi_bins: int
    scores_boundaries: bool
    takes_bfloat16: bool
    resizes_from_float16: bool
    loses_last: bool
    reports_reversed: bool
    loss: LossRules


PRESETS = {
    "paper": Preset(
        roi_bins=32,
        scores_boundaries=True,
        takes_bfloat16=True,
        resizes_from_float16=False,
        loses_last=False,
        reports_reversed=False,
        loss=LossRules(sampled_negatives=False, released_ratio=False, proposal_boundary_weight=1.0),
    ),
    "release": Preset(
        roi_bins=24,
        scores_boundaries=False,
        takes_bfloat16=False,
        resizes_from_float16=True,
        loses_last=True,
        reports_reversed=True,
        loss=LossRules(sampled_negatives=True, released_ratio=True, proposal_boundary_weight=0.5),
    ),
}
