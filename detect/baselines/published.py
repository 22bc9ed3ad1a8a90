"""Published weights of BMN, as mmaction2 spells them -> ours, which are spelled the same but for a table."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.errors import EtadError, counted, listing
from .bmn import Bmn

# The layer's weights, which follow from its sizes: we compute them, mmaction2 keeps them.
TABLE = "sample_mask"
# Newer ones keep which places of the map are proposals, too, which follows from D and T.
MAP_MASK = "bm_mask"


def from_mmaction2(published: dict[str, Tensor], bmn: Bmn) -> dict[str, Tensor]:
    """Give a published state dict as one that a network takes, after a comparison with it.

    Parameters
    ----------
    bmn
        A network of the same sizes, without classes.

    Raises
    ------
    EtadError
        A tensor is missing, has no place or another shape, or proposals were sampled otherwise.
    """
    found = {key.removeprefix("module."): value for key, value in published.items()}
    table = found.pop(TABLE, None)
    found.pop(MAP_MASK, None)
    expected = bmn.state_dict()
    only_one_has = sorted(expected.keys() ^ found.keys())
    if only_one_has:
        raise EtadError(
            f"these are no weights of this BMN: {counted(len(only_one_has), 'tensor')} that only one of both has "
            f"({listing(only_one_has, most=3)}). Expected a checkpoint of mmaction2's BMN."
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise EtadError(
                f"tensor '{name}' is {list(found[name].shape)}, this BMN's is {list(tensor.shape)}. Build one of the "
                "checkpoint's sizes: in_channels, and those of detect.bmn."
            )
    if table is not None and not _samples_the_same(table, bmn):
        raise EtadError(
            f"'{TABLE}' samples proposals otherwise than this BMN: num_snippets, max_duration or the sampling of "
            "detect.bmn differ from the checkpoint's. Set them to its."
        )
    return found


def _samples_the_same(table: Tensor, bmn: Bmn) -> bool:
    """Whether a (T, N D T) table gives each proposal the weights that our layer gives it."""
    durations, snippets = bmn.shape
    samples = bmn.matching.num_samples
    if table.shape != (snippets, samples * durations * snippets):
        return False
    own = bmn.matching.sample(torch.eye(snippets)[None])[0]  # [T, N, K]
    theirs = table.view(snippets, samples, -1)[..., bmn.get_buffer("places")]
    return torch.allclose(own, theirs.float(), rtol=0, atol=1e-5)
