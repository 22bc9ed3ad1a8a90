import pytest
import torch

from etad.detect.kernels.blocks import ProposalBlock, blocks_of, shares

CPU = torch.device("cpu")


def cut(num_videos: int, num_proposals: int) -> list[ProposalBlock]:
    return blocks_of(torch.rand(num_videos, num_proposals, 2), num_videos)


@pytest.mark.parametrize(
    ("num_proposals", "sizes"), [(1, [1]), (1024, [1024]), (1030, [344, 344, 342]), (4000, [667] * 5 + [665])]
)
def test_blocks_are_even_and_as_many_as_threads_can_share(
    num_proposals: int, sizes: list[int], threads: int = 3
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        blocks = cut(2, num_proposals)
    finally:
        torch.set_num_threads(before)
    assert [len(block.proposals) for block in blocks] == 2 * sizes
    assert [block.video for block in blocks] == [0] * len(sizes) + [1] * len(sizes)


@pytest.mark.parametrize(
    ("num_videos", "num_proposals", "parts", "shared"),
    [
        (4, 1025, [[0, 1, 2, 3], [4, 5, 6, 7]], []),
        (3, 1025, [[0, 1, 4], [2, 3, 5]], [2]),
        (1, 1025, [[0], [1]], [0]),
        (3, 8, [[0, 2], [1]], [2]),
        (1, 8, [[0]], []),
    ],
)
def test_threads_get_whole_videos_and_share_what_is_left_over(
    num_videos: int, num_proposals: int, parts: list[list[int]], shared: list[int]
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert shares(cut(num_videos, num_proposals), CPU) == (parts, shared)
    finally:
        torch.set_num_threads(before)


def test_blocks_of_shared_proposals_have_the_same_keys_in_every_video() -> None:
    shared, own = blocks_of(torch.rand(2000, 2), 3), cut(3, 2000)
    assert [block.video for block in shared] == [block.video for block in own]
    assert [len(block.proposals) for block in shared] == [len(block.proposals) for block in own]
    per_video = len(shared) // 3
    assert [block.key for block in shared] == 3 * list(range(per_video))
    assert len({block.key for block in own}) == len(own)
