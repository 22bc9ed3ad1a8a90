"""Boundary evaluation: how likely an action starts or ends at each snippet (method, section 2)."""

from torch import Tensor, nn

from .enhance import GROUPS, WIDTH


class BoundaryEvaluation(nn.Module):
    """Startness and endness of every snippet."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=GROUPS)
        self.out = nn.Conv1d(WIDTH, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 256, T) enhanced features -> (B, 2, T) startness and endness, 0..1."""
        return self.out(self.hidden(x).relu()).sigmoid()
