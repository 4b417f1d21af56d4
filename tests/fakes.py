"""Stand-ins for engines and generators in plain numpy, so that handlers run without torch.

Their outputs follow rules simple enough to compute by hand: a token means ``meaning(token)``, a
text the mean of its tokens, a picture its mean colour; a generator writes what it was told to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from backprop.engines import Allowed, Array, Decoding, Generation
from backprop.handlers.pixels import Pixels
from backprop.handlers.tokens import Tokens
from backprop.pictures import Picture, open_picture

WIDTH = 8
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
END = "<end>"

Reply = Callable[[str], Sequence[tuple[str, float]]]
"""A prompt's text to what is written after it: (text, score) pairs, best first."""


def meaning(token: str) -> Array:
    """Return the vector of ``token``, shape (WIDTH,), the same in every process."""
    return np.random.default_rng(zlib.crc32(token.encode())).normal(size=WIDTH)


def word_tokens(*texts: str, **options: Any) -> Tokens:
    """Return a tokenizer of whole words and marks that knows those of ``texts``.

    Texts become ``[CLS] a [SEP]``, pairs ``[CLS] a [SEP] b [SEP]``.
    """
    words = pre_tokenizers.Whitespace()
    known = [piece for text in texts for piece, _ in words.pre_tokenize_str(text)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *known]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = words
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    return Tokens(tokenizer, **{"max_length": 64, "inputs": inputs, **options})


def byte_tokens(*, max_length: int = 4096) -> Tokens:
    """Return a tokenizer with a token for each byte, and one that ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return Tokens(tokenizer, max_length=max_length)


class TextEngine:
    """Text functions in numpy; remembers the shape of every batch.

    A text's vector is the mean of what its tokens mean; its logits are three times that, the
    tokens of a pair's second text counted twice in the sum.

    Args:
        tokens: whose ids it reads.
        spans: token to its scores as start and as end; others have (0, 0).
    """

    batch_tokens = 4096
    single = None

    def __init__(
        self, tokens: Tokens, *, spans: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        size = tokens.tokenizer.get_vocab_size()
        names = [str(tokens.tokenizer.id_to_token(i)) for i in range(size)]
        self.meanings = np.stack([meaning(name) for name in names])
        self.spans = np.array([(spans or {}).get(name, (0.0, 0.0)) for name in names])
        self.batches: list[tuple[int, ...]] = []

    @property
    def rows(self) -> int:
        """Rows seen so far."""
        return sum(batch[0] for batch in self.batches)

    def run(self, function: str, **arrays: Any) -> Array:
        """Return the function's result."""
        self.batches.append(arrays["input_ids"].shape)
        functions: dict[str, Callable[..., Array]] = {
            "text_vectors": self._vectors,
            "logits": self._logits,
            "spans": self._spans,
        }
        return functions[function](**arrays).astype(np.float32)

    def _vectors(self, input_ids: Any, attention_mask: Any, **_: Any) -> Array:
        mask = attention_mask[..., None]
        means: Array = (self.meanings[input_ids] * mask).sum(1) / mask.sum(1)
        return means

    def _logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Array:
        mask = (attention_mask * (1 + token_type_ids))[..., None]
        sums: Array = (self.meanings[input_ids] * mask).sum(1)
        found: Array = 3 * sums / attention_mask.sum(1)[:, None]
        return found

    def _spans(self, input_ids: Any, attention_mask: Any, **_: Any) -> Array:
        # What is padding gets the highest score of all: nobody may look at it.
        scores: Array = np.where(attention_mask[..., None] > 0, self.spans[input_ids], 1e6)
        return scores


class ColourEngine:
    """Image functions in numpy: the mean colour of the picture, seen through ``matrix``.

    Args:
        matrix: shape (3, width); colours to vectors or logits.
        bias: added after, shape (width,).
    """

    batch_tokens = 4096
    single: ColourEngine | None = None

    def __init__(self, matrix: Array, bias: Array | float = 0.0) -> None:
        self.matrix = matrix
        self.bias = bias
        self.batches: list[tuple[int, ...]] = []

    def run(self, function: str, **arrays: Any) -> Array:
        """Return the result, the same for each function."""
        pixels = arrays["pixel_values"]
        assert function in ("image_vectors", "logits") and pixels.dtype == np.float32
        self.batches.append(pixels.shape)
        found: Array = (pixels.mean((2, 3)) @ self.matrix + self.bias).astype(np.float32)
        return found


PIXELS = Pixels(
    resize=(4, 4),
    shortest_edge=None,
    crop=None,
    resample=Image.Resampling.NEAREST,
    factor=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)


def plain_picture(red: int, green: int, blue: int, size: tuple[int, int] = (9, 7)) -> Picture:
    """Return a picture of one colour."""
    return open_picture(Image.new("RGB", size, (red, green, blue)), "image")


def seen(red: int, green: int, blue: int) -> Array:
    """Return what an engine sees of a picture of one colour, by ``PIXELS``: shape (3,)."""
    return (np.array([red, green, blue]) / 255 - 0.5) / 0.25


class FakeGenerator:
    """Writes ``reply``, token by token; where its next token is not allowed, the first that is.

    Args:
        tokens: what it reads and writes with.
        reply: a prompt to what is written after it.
    """

    limits: Mapping[str, int] = {"max_rows": 32}

    def __init__(self, tokens: Tokens, reply: Reply) -> None:
        self.tokens = tokens
        self.reply = reply
        self.end = int(tokens.id_of(END) or 0)
        self.batches: list[tuple[int, Decoding]] = []
        self.prompts: list[str] = []

    @property
    def ends(self) -> frozenset[int]:
        """The token that ends a text."""
        return frozenset([self.end])

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, allowed: Allowed | None = None
    ) -> list[list[Generation]]:
        """Return ``decoding.sequences`` of the replies to each prompt."""
        self.batches.append((len(prompts), decoding))
        found = []
        for row, prompt in enumerate(prompts):
            replies = self._replies(prompt)[: decoding.sequences]
            written = [
                (self._write(text, decoding, allowed, row), score) for text, score in replies
            ]
            found.append([Generation(list(tokens), score) for tokens, score in written])
        return found

    def stream(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Yield the tokens of the first reply."""
        [(text, _)] = self._replies(prompt)[:1]
        return self._write(text, decoding, None, 0)

    def _replies(self, prompt: Sequence[int]) -> Sequence[tuple[str, float]]:
        self.prompts.append(self.tokens.decode(prompt, keep_special=True))
        return self.reply(self.prompts[-1])

    def _write(
        self, text: str, decoding: Decoding, allowed: Allowed | None, row: int
    ) -> Iterator[int]:
        [encoding] = self.tokens.plain([text])
        wanted, written = [*encoding.ids, self.end], list[int]()
        while len(written) < decoding.max_new:
            token = wanted[len(written)] if len(written) < len(wanted) else self.end
            if allowed is not None:
                options = allowed(row, written)
                token = token if token in options else options[0]
            if token == self.end:
                return
            written.append(token)
            yield token
            if decoding.stop is not None and decoding.stop(written):
                return
