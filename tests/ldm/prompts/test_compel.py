"""compel's grammar and numbers, beside those of the package compel on the same weights."""

from __future__ import annotations

import random
import time

import pytest
import torch

from ldm.errors import UserError
from ldm.prompts import CompelEncoder, parse_compel

LONG = ". ".join(f"a cat of the {n}th kind, on a mat" for n in range(14))
PROMPTS = [
    "a red apple",
    "a red++ apple, on a (wooden table)1.3",
    "a red-- apple on a (wooden table)0.4",
    "a (red (round)0.5 apple)++ (in snow)- (gone)0",
    '("a red apple", "a blue+ box").blend(0.7, 0.3)',
    '("a red apple", "a blue box", "a (cat)0.5").blend(1, -0.5, 0.2, no_normalize)',
    '("a red apple", "a blue- box").and(1, 0.4)',
    '("a cat", "b").and()',
    LONG,
    f"(a (first)0.7 word. {LONG})1.2 and (last words. {LONG})0.5",
    "catdog" * 90,
    "",
]
WRITTEN = [
    "a cat",
    "a cat.attend(1.5) (a b).attend(++) c.attend(-)",
    "e-mail C++ x cat+dog a- -5 (5 -5)1.1 1.5 (a 1.5 b)1.1",
    r'a \(b\) (a \"b\" c)2 "d \"e\" f"1.2',
    '"a b"++ c "d"- ((a)1.5)2 ()1.2 (a, b. c)1.2',
    "(unbalanced b a) b) c (a = b) a (b + c) d a...b (a...b)+",
    "(a b)-1.3 (a b)+1.3 (c)1.5x a,,b ,c",
    "withLora(ink, 0.5) a cat useLora(hat)",
    "(a b).and() x(y)1.2 (x (y)",
]


def own(text: str) -> tuple:
    prompt = parse_compel(text)
    terms = [
        (t.weight, tuple(tuple(map(tuple, each)) for each in t.prompts), t.shares, t.normalize)
        for t in prompt.terms
    ]
    return terms, [(tag.name, tag.unet_scale) for tag in prompt.tags]


def theirs(parser, text: str) -> tuple:
    read, terms = parser.parse_conjunction(text), []
    for prompt, weight in zip(read.prompts, read.weights, strict=True):
        several = getattr(prompt, "prompts", None) or [prompt]
        shares = tuple(getattr(prompt, "weights", (1.0,)))
        texts = tuple(tuple((f.text, f.weight) for f in each.children) for each in several)
        terms.append((weight, texts, shares, getattr(prompt, "normalize_weights", True)))
    return terms, [(each.model, float(each.weight)) for each in read.lora_weights]


@pytest.fixture(scope="module")
def parser():
    return pytest.importorskip("compel.prompt_parser").PromptParser()


@pytest.mark.parametrize("text", WRITTEN + PROMPTS[:8])
def test_prompts_are_read_as_the_package_reads_them(parser, text):
    assert own(text) == theirs(parser, text)


def test_words_and_signs_in_any_order_are_read_as_the_package_reads_them(parser):
    draw = random.Random(5)
    signs = ["a", "cat", " ", "(", ")", "(a b)", '"c d"', "++", "-", "1.3", "2", ",", ".", "\\("]
    compared = 0
    for _ in range(60):
        text = "x " + "".join(draw.choices(signs, k=draw.randint(1, 8)))
        assert own(text) == theirs(parser, text), text
        compared += 1
    assert compared == 60


@pytest.fixture(scope="module")
def package(peer, peer_tokenizer):
    compel = pytest.importorskip("compel")
    return compel.Compel(peer_tokenizer, peer, truncate_long_prompts=False)


@pytest.fixture(scope="module")
def encoder(conditioner):
    return CompelEncoder(conditioner)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_states_are_the_packages_to_a_hundred_thousandth(encoder, package, prompt):
    (part,) = encoder.encode(prompt)
    torch.testing.assert_close(part.states[0][None], package(prompt), rtol=1e-5, atol=1e-5)


def test_shorter_prompts_are_filled_up_as_the_package_does(encoder, package):
    texts = ["a cat++", LONG]
    states = [encoder.encode(text)[0].states[0] for text in texts]
    wanted = package.pad_conditioning_tensors_to_same_length([package(text) for text in texts])
    for one, other in zip(encoder.equal(states), wanted, strict=True):
        torch.testing.assert_close(one[None], other, rtol=1e-5, atol=1e-5)


def test_clip_skip_takes_the_penultimate_block_as_the_package_can(
    conditioner, peer, peer_tokenizer, monkeypatch
):
    compel = pytest.importorskip("compel")
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NORMALIZED
    prompt = "a red++ apple (in a box)0.5"
    wanted = compel.Compel(peer_tokenizer, peer, returned_embeddings_type=kind)
    if not hasattr(peer, "text_model"):  # the package asks for the norm at its older place
        monkeypatch.setitem(vars(peer), "text_model", peer)
    got = CompelEncoder(conditioner, 2).encode(prompt)[0].states[0]
    torch.testing.assert_close(got[None], wanted(prompt), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat.swap(dog)", "'cat.swap()'; .swap() is not done here"),
        ('("a", "b").blend(1)', "joins 2 prompts; expected 2 numbers"),
        ('("a", "b").and(much, more)', "joins 2 prompts; expected 2 numbers"),
        ('("a", "b").blend(1, -1)', "sum to 0"),
        ('("a", "b").and(1, 1) c', "has 'c' behind .and()"),
        ("( " * 200, "opens more than 100 brackets"),
        ("a" * 200_000, "a prompt of 200000 letters"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(prompt, said):
    with pytest.raises(UserError) as refused:
        parse_compel(prompt)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("piece", [") ", "(a) ", '"', "a+ ", ",", "\\", "(a)1 (", "++", '("a",'])
def test_a_long_prompt_takes_no_longer_for_its_signs(piece):
    begun = time.process_time()
    try:
        parse_compel((piece * 20_000)[:20_000])
    except UserError as error:
        assert "\n" not in str(error)
    assert time.process_time() - begun < 3


def test_too_many_faded_words_are_refused_in_one_line(encoder):
    with pytest.raises(UserError, match="has 300 parts that weigh less than 1"):
        encoder.encode(" ".join("a- b" for _ in range(300)))


def test_an_encoder_with_another_tokenizer_is_named_in_one_line(conditioner):
    class Other:
        blocks, tokenizer, encode_ids = 3, object(), None

    with pytest.raises(UserError, match="tokenizer, a object, does not say where words end"):
        CompelEncoder(Other())
