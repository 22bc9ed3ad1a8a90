"""What the detector should have said: boundary targets, and the action of each proposal (method, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REGION_SNIPPETS = 1.5


@dataclass(frozen=True)
class Matches:
    """The action that each proposal takes and keeps through the stages.

    Parameters
    ----------
    segments
        (B, K, 2) fractions of the window, float32; (0, 0) in videos without actions.
    labels
        (B, K) class numbers; -1 in videos without actions.
    """

    segments: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Actions:
    """The actions of a batch, padded to the longest list.

    Parameters
    ----------
    segments
        (B, N, 2) fractions of the window, float64.
    labels
        (B, N) class numbers.
    real
        (B, N) false for padding.
    """

    segments: Tensor
    labels: Tensor
    real: Tensor

    @classmethod
    def of(cls, segments: list[Tensor], labels: list[Tensor]) -> Actions:
        """Pad lists of (n, 2) segments and (n,) labels, one a video."""
        most = max(1, *(len(each) for each in labels))
        return cls(
            segments=torch.stack([F.pad(each.double(), (0, 0, 0, most - len(each))) for each in segments]),
            labels=torch.stack([F.pad(each.long(), (0, most - len(each)), value=-1) for each in labels]),
            real=torch.stack([torch.arange(most) < len(each) for each in labels]),
        )

    def to(self, device: torch.device) -> Actions:
        return Actions(*(each.to(device) for each in (self.segments, self.labels, self.real)))


def boundary_targets(actions: Actions, num_snippets: int) -> Tensor:
    """Startness and endness of each snippet: its largest overlap with the region around any boundary.

    Returns
    -------
    Tensor
        (B, 2, T) float32, in shares of a snippet.
    """
    edges = torch.arange(num_snippets + 1, dtype=torch.float64, device=actions.segments.device) / num_snippets
    low, high = edges[:-1, None], edges[1:, None]
    boundary = actions.segments.transpose(1, 2)[:, :, None, :]  # [B, 2, 1, N]
    reach = REGION_SNIPPETS / num_snippets
    overlap = torch.minimum(high, boundary + reach) - torch.maximum(low, boundary - reach)
    overlap = overlap.clamp(min=0) * actions.real[:, None, None, :]
    return (overlap.amax(dim=3) / (1 / num_snippets + 1e-6)).float()


def match(proposals: Tensor, actions: Actions) -> Matches:
    """Give each initial proposal the action of highest IoU; the first annotated one on ties.

    Parameters
    ----------
    proposals
        (B, K, 2) fractions of the window, or (K, 2) where all videos share them.
    """
    start, end = proposals.double().unsqueeze(-2).unbind(-1)  # [B, K, 1] or [K, 1]
    action_start, action_end = actions.segments.unsqueeze(1).unbind(-1)  # [B, 1, N]
    inter = (torch.minimum(end, action_end) - torch.maximum(start, action_start)).clamp(min=0)
    union = (end - start) + (action_end - action_start) - inter
    iou = (inter / (union + 1e-6)).masked_fill(~actions.real[:, None, :], -1)
    best = iou.argmax(dim=2)  # [B, K]
    segments = actions.segments.gather(1, best[:, :, None].expand(-1, -1, 2))
    return Matches(segments.float(), actions.labels.gather(1, best))


def aligned_iou(proposals: Tensor, segments: Tensor) -> Tensor:
    """IoU of each proposal with its own action, measured without epsilon.

    Parameters
    ----------
    proposals, segments
        (..., 2).
    """
    start, end = proposals.unbind(-1)
    action_start, action_end = segments.unbind(-1)
    inter = (torch.minimum(end, action_end) - torch.maximum(start, action_start)).clamp(min=0)
    union = (end - start) + (action_end - action_start) - inter
    # A reversed proposal may cancel its action's length: no overlap, whatever the union.
    return torch.where(inter > 0, inter / union, 0.0)


def offset_targets(proposals: Tensor, segments: Tensor) -> Tensor:
    """Offsets that would move each proposal onto its action, (..., 4): start, end, centre, width."""
    length = (proposals[..., 1] - proposals[..., 0]).clamp(min=1e-6)
    action_length = (segments[..., 1] - segments[..., 0]).clamp(min=1e-6)
    by_start = (segments[..., 0] - proposals[..., 0]) / length
    by_end = (segments[..., 1] - proposals[..., 1]) / length
    by_width = torch.log(action_length / length + 1e-6)
    return torch.stack([by_start, by_end, (by_start + by_end) / 2, by_width], dim=-1)
