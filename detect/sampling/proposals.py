"""APS: which proposals a training step, a validation and an inference evaluate (method, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.errors import EtadError, counted
from ..kernels import roi_mean
from ..model.proposals import boundaries, lattice
from ..settings import DetectSettings
from ..strategies import find_strategy
from .population import sample_lattice


class ProposalSampler:
    """Proposals as fractions of the window, drawn from the lattice of all.

    Raises
    ------
    EtadError
        A share so small that it holds no proposal.
    """

    def __init__(self, settings: DetectSettings) -> None:
        self.sampling, self.bins, self.num_snippets = settings.sampling, settings.roi_bins, settings.num_snippets
        self.kernels = settings.kernels
        self.cells = lattice(settings.num_snippets, settings.max_duration)
        self.all = boundaries(self.cells, settings.num_snippets)
        for name, ratio in (("ratio", self.sampling.ratio), ("inference_ratio", self.sampling.inference_ratio)):
            if len(self.all) * ratio < 1:
                raise EtadError(
                    f"detect.sampling.{name}={ratio:g} of {counted(len(self.all), 'proposal')} is none. "
                    f"Set it to {1 / len(self.all):.2g} or more."
                )

    def __call__(
        self,
        enhanced: Tensor | None,
        generator: torch.Generator,
        *,
        num_videos: int | None = None,
        own: range | None = None,
    ) -> Tensor:
        """Draw a training step's proposals anew for each video.

        Parameters
        ----------
        enhanced
            (B, 256, T) enhanced features, for strategies that look at them; none where there is no video of one's own.
        num_videos, own
            How many videos draw together, and which of them are one's own, B; none: those alone.

        Returns
        -------
        Tensor
            (B, K, 2), or (K, 2) where the strategy takes the same of every video; on the CPU.
        """
        strategy = find_strategy(self.sampling.strategy, gradients=False)
        features = self._features(enhanced) if strategy.needs == "features" and enhanced is not None else None
        if num_videos is None:
            assert enhanced is not None
            num_videos = len(enhanced)
        rows = sample_lattice(
            strategy.name,
            self.cells,
            num_draws=num_videos,
            ratio=self.sampling.ratio,
            generator=generator,
            features=features,
            own=own,
        )
        shares = strategy.same_for_all or rows.shape[1] == len(self.all)
        return self.all[(rows[0] if shares and len(rows) else rows).cpu()]

    def for_validation(self) -> Tensor:
        """The grid's proposals, which all videos share, (K, 2)."""
        return self._grid(self.sampling.ratio)

    def for_inference(self) -> Tensor:
        """All proposals, or a grid of them (Table 4), which all videos share, (K, 2)."""
        return self._grid(self.sampling.inference_ratio)

    def _grid(self, ratio: float) -> Tensor:
        unused = torch.Generator()  # a grid draws nothing
        rows = sample_lattice("grid", self.cells, num_draws=1, ratio=ratio, generator=unused)[0]
        return self.all[rows]

    def _features(self, enhanced: Tensor) -> Tensor:
        """Mean over bins of the RoI-aligned enhanced features (our choice), (B, K, 256)."""
        in_snippets = (self.all * self.num_snippets).to(enhanced.device)
        return roi_mean(enhanced.transpose(1, 2), in_snippets, bins=self.bins, kernels=self.kernels)
