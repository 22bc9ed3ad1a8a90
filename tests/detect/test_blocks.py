import pytest
import torch

from etad.detect.blocks import Block, blocks_of, shares

CPU = torch.device("cpu")


def cut(num_videos: int, num_proposals: int) -> list[Block]:
    return blocks_of(torch.rand(num_videos, num_proposals, 2))


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


def test_threads_get_whole_videos_where_they_can_and_alternate_blocks_where_not() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert [list(part) for part in shares(cut(4, 1025), CPU)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert [list(part) for part in shares(cut(3, 1025), CPU)] == [[0, 2, 4], [1, 3, 5]]
        assert [list(part) for part in shares(cut(1, 8), CPU)] == [[0]]
    finally:
        torch.set_num_threads(before)
