"""Token merging by its formulas, recomputed token by token."""

from __future__ import annotations

import pytest
import torch

from ldm.process.token_merging import destinations_of, match


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tokens(side, rows=2, width=5):
    return torch.randn(rows, side[0] * side[1], width, generator=seeded(1))


@pytest.mark.parametrize("side", [(4, 4), (6, 8), (5, 7), (3, 2)])
def test_each_whole_square_has_one_destination(side):
    h, w = side
    numbers = destinations_of(side, seeded()).tolist()
    squares = {(n // w // 2, n % w // 2) for n in numbers}
    assert len(numbers) == len(squares) == (h // 2) * (w // 2)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("side", [(4, 4), (5, 7)])
def test_merging_is_the_papers_recomputed_by_loops(side, ratio):
    x = tokens(side)
    count = x.shape[1]
    matching = match(x, side, ratio, seeded())
    destinations = destinations_of(side, seeded()).tolist()
    sources = [n for n in range(count) if n not in destinations]
    r = min(int(count * ratio), len(sources))
    merged, whole = matching.merge(x), matching.unmerge(matching.merge(x))
    assert merged.shape == (2, count - r, 5) and whole.shape == x.shape
    for row in range(2):
        nearest = {}
        for source in sources:
            alike = [float(torch.cosine_similarity(x[row, source], x[row, d], dim=0))
                     for d in destinations]  # fmt: skip
            nearest[source] = max(alike), destinations[alike.index(max(alike))]
        chosen = sorted(sources, key=lambda source: -nearest[source][0])[:r]
        for d in destinations:
            group = [d, *[source for source in chosen if nearest[source][1] == d]]
            mean = x[row, group].mean(0)
            for member in group:
                assert torch.allclose(whole[row, member], mean, atol=1e-6)
        for source in sources:
            if source not in chosen:
                assert torch.equal(whole[row, source], x[row, source])


def test_what_is_not_merged_comes_back_to_the_bit():
    x = tokens((4, 6))
    matching = match(x, (4, 6), 0.0, seeded())
    assert torch.equal(matching.unmerge(matching.merge(x)), x)


def test_tokens_that_are_all_alike_lose_nothing():
    x = torch.ones(1, 16, 3)
    matching = match(x, (4, 4), 0.75, seeded())
    assert matching.merge(x).shape[1] == 4
    assert torch.allclose(matching.unmerge(matching.merge(x)), x)


def test_the_choice_is_the_generators_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = match(tokens((4, 4)), (4, 4), 0.5, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.destinations, destinations_of((4, 4), seeded(3)))
    others = [destinations_of((8, 8), seeded(seed)).tolist() for seed in range(5)]
    assert len(set(map(tuple, others))) == 5
