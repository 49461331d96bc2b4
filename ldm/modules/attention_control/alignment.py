"""Which token of one prompt corresponds to which of another: prompt-to-prompt, arXiv:2208.01626.

Shapes: L tokens in a row, the same for both prompts. A row is start, words, end, padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.modules.attention_control.words import TokenizedPrompt

MATCH, MISMATCH, GAP = 1, -1, 0  # scores, as published
NEW = -1  # the source of a target token that has none


def align(source_ids: Sequence[int], target_ids: Sequence[int]) -> list[int]:
    """Align two rows of ids by the dynamic programme of Needleman and Wunsch.

    With F(i, j) the best score of the first i source and j target ids, F(i, 0) = F(0, j) = 0,

        F(i, j) = max(F(i, j-1) + GAP, F(i-1, j) + GAP, F(i-1, j-1) + (MATCH or MISMATCH)).

    Going back from the end the first of the three that reaches the score is taken, as published:
    of several equal target tokens the earliest gets the source. As a gap costs nothing, unequal
    ids are never aligned, and the score is the length of the longest common subsequence.

    Returns:
        For each target id the index of its source id, or ``NEW`` (-1).

    Example:
        >>> align([7, 1, 2, 9], [7, 1, 5, 2, 9])
        [0, 1, -1, 2, 3]
    """
    scores = _scores(source_ids, target_ids)
    sources = [NEW] * len(target_ids)
    i, j = len(source_ids), len(target_ids)
    while i and j:
        if scores[i][j] == scores[i][j - 1] + GAP:
            j -= 1
        elif scores[i][j] == scores[i - 1][j] + GAP:
            i -= 1
        else:
            i, j = i - 1, j - 1
            sources[j] = i
    return sources


def _scores(source_ids: Sequence[int], target_ids: Sequence[int]) -> list[list[int]]:
    """Return F, (len(source_ids) + 1) rows of len(target_ids) + 1 scores."""
    scores = [[GAP * j for j in range(len(target_ids) + 1)]]
    for i, source_id in enumerate(source_ids, start=1):
        above, row = scores[-1], [GAP * i]
        for j, target_id in enumerate(target_ids):
            met = above[j] + (MATCH if source_id == target_id else MISMATCH)
            row.append(max(row[j] + GAP, above[j + 1] + GAP, met))
        scores.append(row)
    return scores


def refinement(source: TokenizedPrompt, target: TokenizedPrompt) -> tuple[Tensor, Tensor]:
    """Find each target token's source token, for a target that adds words to the source.

    Start, words and end are aligned by their ids (see ``align``). The padding maps to the same
    positions of the source, whatever stands there, as published.

    Returns:
        index: (L,) long, the position in the source; a new token's is its own position.
        kept: (L,) float32, 0 where the token is new and 1 elsewhere.

    Raises:
        UserError: The rows are not of the same length.
    """
    _check_rows(source, target)
    aligned = align(source.ids[: source.count + 1], target.ids[: target.count + 1])
    index, kept = torch.arange(target.length), torch.ones(target.length)
    for position, origin in enumerate(aligned):
        if origin == NEW:
            kept[position] = 0
        else:
            index[position] = origin
    return index, kept


def is_swap(source: TokenizedPrompt, target: TokenizedPrompt) -> bool:
    """Check whether two prompts have equally many words, so that ``replacement`` takes them."""
    return len(source.units()) == len(target.units())


def replacement(source: TokenizedPrompt, target: TokenizedPrompt) -> Tensor:
    """Return the matrix M (L, L) that carries the source's attention over to swapped words.

    Rows are source tokens, columns target tokens: A'[n] = sum over w of A[w] M[w, n]. Words are
    paired in order (``TokenizedPrompt.units``: between white space as published, runs of one
    script where there is none). A word of k tokens onto one of m is the identity if k = m, else
    1/m in each entry of the block.

    Every *row* sums to one, so that the carried probabilities of a pixel do too. (Columns do not:
    a block's column sums to k/m.) The published code breaks this behind the last swap with k != m,
    where it sets M[j, j] = 1 although source and target are apart by m - k: a row is left empty
    or gets 2, and equal words do not meet. Here the words behind a swap shift, end maps to end,
    and padding to itself; padding whose position the target needs for a word goes to the
    target's first padding, and a token whose counterpart the row's end has cut off to the end
    token. For prompts of equal token counts M is the published one.

    Raises:
        UserError: The prompts have different numbers of words, or rows of different lengths.
    """
    _check_rows(source, target)
    ours, theirs = _tokens_by_word(source), _tokens_by_word(target)
    if len(ours) != len(theirs):
        raise UserError(
            f"{quoted(source.text)} has {len(ours)} words and {quoted(target.text)} has "
            f"{len(theirs)}; a word swap needs equally many; use the mode refine or auto"
        )
    length, last = source.length, source.length - 1
    end = min(target.count, last)  # a foreign tokenizer may have no end token
    mapper = torch.zeros(length, length)
    starts = torch.arange(source.start)
    mapper[starts, starts] = 1
    mapper[source.start : source.count, end] = 1  # until a word claims the row
    for rows, columns in zip(ours, theirs, strict=True):
        if rows and columns:
            block = torch.full((len(rows), len(columns)), 1 / len(columns))
            mapper[rows, end] = 0
            mapper[torch.tensor(rows)[:, None], torch.tensor(columns)] = (
                torch.eye(len(rows)) if len(rows) == len(columns) else block
            )
    for position in range(source.count, length):
        behind = min(max(position, end + 1), last)
        mapper[position, end if position == source.count else behind] = 1
    return mapper


def _tokens_by_word(prompt: TokenizedPrompt) -> list[list[int]]:
    """Return the positions of each word's tokens; a token belongs to the word it begins in."""
    units = prompt.units()
    tokens: list[list[int]] = [[] for _ in units]
    word = 0
    for position, span in enumerate(prompt.spans):
        if span is None or not units:
            continue
        while word < len(units) - 1 and units[word][1] <= span[0]:
            word += 1
        tokens[word].append(position)
    return tokens


def _check_rows(source: TokenizedPrompt, target: TokenizedPrompt) -> None:
    if source.length != target.length:
        raise UserError(
            f"rows of {source.length} and {target.length} tokens given; expected the same "
            "length; read both prompts with the same tokenizer"
        )
