"""Small tokenizers of every family, trained in memory, for the models of ``tiny.py``.

Each function returns a tokenizer of transformers, whose ``save_pretrained`` writes hub files.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = """\
Sally lives in London with her brother Tom and two cats. She moved there in 2009, after ten
years in Paris. Where does Sally live? Who is her brother? What did they eat for dinner, and
when did the train leave? The museum by the river opens at nine in the morning and closes at
half past five. Tickets cost 12 pounds. I really like what you did there! This was the worst
film that I have seen, and I am angry about it. She was sad when the summer ended, but the first
snow made everyone happy. He is afraid of spiders and snakes. A small brown dog runs over the
green grass; a black cat sleeps on the warm roof; three birds sing in a tree. Scientists
measured the temperature of the ocean at 340 places and found that it had risen by 0.8 degrees.
The company said on Monday that its profit grew by 15% in the last quarter, more than analysts
had expected. Please translate this sentence, summarise the article, answer the question and
write a short poem about rain. My card has not arrived yet. How do I change my address, and why
was my payment declined twice this week? Fresh bread, cheese, apples and a glass of red wine
were on the table near the window of the old kitchen. The engineer wrote a program which reads
photographs and names the animals, plants and machines on them. Football, music, politics,
travel, science and technology are the sections of the newspaper we read at home. Many people
walk or ride a bicycle to work, because the buses are slow and the streets are full of cars.
When the teacher asked who had broken the glass, nobody answered; then a girl in the last row
raised her hand. It was not until the following year that the bridge, which joins both halves of
the city, could be used again.
"""

CHAT_TEMPLATE = """\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\
{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def _class(name: str) -> Callable[..., PreTrainedTokenizerBase]:
    """Return the tokenizer class ``name`` of transformers, imported only now."""
    found: Callable[..., PreTrainedTokenizerBase] = getattr(
        importlib.import_module("transformers"), name
    )
    return found


def _numbered(*groups: Sequence[str]) -> dict[str, int]:
    return {
        token: number for number, token in enumerate(token for group in groups for token in group)
    }


def _trained(
    model: models.Model, trainer: trainers.Trainer, **pipeline: Any
) -> tuple[list[Any], list[Any]]:
    """Return the vocabulary, in order of ids, and the merges learnt on ``TEXT``."""
    tokenizer = Tokenizer(model)
    for step, value in pipeline.items():
        setattr(tokenizer, step, value)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    vocabulary = learnt["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary = sorted(vocabulary, key=vocabulary.__getitem__)
    return vocabulary, [tuple(merge) for merge in learnt.get("merges", [])]


@functools.cache
def _byte_pairs() -> tuple[list[Any], list[Any]]:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    return _trained(
        models.BPE(), trainer, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)
    )


@functools.cache
def _sentence_piece_file(*, lower: bool = False) -> bytes:
    """Return a ``spiece.model`` with the first ids of T5: padding, end, unknown.

    It is learnt by sentencepiece itself, whose scores, unlike those of tokenizers' own trainer,
    are the same in every process.
    """
    written = io.BytesIO()
    importlib.import_module("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT.lower() if lower else TEXT).splitlines()),
        model_writer=written,
        vocab_size=400,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    return written.getvalue()


def _sentence_pieces(*, lower: bool = False) -> tuple[list[tuple[str, float]], bytes]:
    """Return the pieces with their scores, and the table that normalises characters."""
    proto = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    proto.ParseFromString(_sentence_piece_file(lower=lower))
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    return pieces, proto.normalizer_spec.precompiled_charsmap


def _unscored(*names: str) -> list[tuple[str, float]]:
    return [(name, 0.0) for name in names]


def word_pieces() -> PreTrainedTokenizerBase:
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    lower, words = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    # WordPiece's own trainer numbers its tokens differently in every process.
    tokens, _ = _trained(models.BPE(), trainer, normalizer=lower, pre_tokenizer=words)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = _numbered(special, tokens, ["##" + token for token in tokens])
    return _class("BertTokenizer")(vocab=vocabulary, model_max_length=128)


def roberta() -> PreTrainedTokenizerBase:
    tokens, merges = _byte_pairs()
    vocabulary = _numbered(["<s>", "<pad>", "</s>", "<unk>"], tokens, ["<mask>"])
    return _class("RobertaTokenizer")(vocab=vocabulary, merges=merges, model_max_length=128)


def gpt2() -> PreTrainedTokenizerBase:
    tokens, merges = _byte_pairs()
    vocabulary = _numbered(tokens, ["<|endoftext|>"])
    return _class("GPT2Tokenizer")(vocab=vocabulary, merges=merges, model_max_length=256)


def chat() -> PreTrainedTokenizerBase:
    tokens, merges = _byte_pairs()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(special, tokens), merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return _class("PreTrainedTokenizerFast")(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def deberta() -> PreTrainedTokenizerBase:
    tokens, merges = _byte_pairs()
    vocabulary = _numbered(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], tokens, ["[MASK]"])
    return _class("DebertaTokenizer")(vocab=vocabulary, merges=merges, model_max_length=128)


def clip() -> PreTrainedTokenizerBase:
    tokens, merges = _byte_pairs()
    # Each merge also ends a word; the space that starts one in GPT-2's way has no part here.
    both = [(left, right + end) for left, right in merges for end in ("", "</w>") if left[0] != "Ġ"]
    letters = [token for token in tokens if len(token) == 1]
    ends = [letter + "</w>" for letter in letters]
    learnt = list(dict.fromkeys(left + right for left, right in both))
    # The end of text has the highest id: models of the first kind find it by that.
    vocabulary = _numbered(letters, ends, learnt, ["<|startoftext|>", "<|endoftext|>"])
    return _class("CLIPTokenizer")(vocab=vocabulary, merges=both, model_max_length=77)


def t5() -> PreTrainedTokenizerBase:
    pieces, characters = _sentence_pieces()
    sentinels = _unscored(*(f"<extra_id_{number}>" for number in reversed(range(100))))
    return _class("T5Tokenizer")(
        vocab=[*pieces, *sentinels], _spm_precompiled_charsmap=characters, model_max_length=128
    )


def xlnet() -> PreTrainedTokenizerBase:
    pieces, characters = _sentence_pieces()
    special = _unscored(
        "<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"
    )
    return _class("XLNetTokenizer")(
        vocab=[*special, *pieces[3:]], _spm_precompiled_charsmap=characters
    )


def deberta_v2() -> PreTrainedTokenizerBase:
    pieces, _ = _sentence_pieces()
    special = _unscored("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    vocabulary = [*special, *pieces[3:], *_unscored("[MASK]")]
    return _class("DebertaV2Tokenizer")(vocab=vocabulary, model_max_length=128)


def siglip() -> PreTrainedTokenizerBase:
    """Return SigLIP's tokenizer, which transformers 5 reads from a sentencepiece file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spiece.model"
        path.write_bytes(_sentence_piece_file(lower=True))
        tokenizer = _class("SiglipTokenizer")(vocab_file=str(path))
    return tokenizer


def write_siglip_tokenizer(folder: Path) -> None:
    """Add the ``tokenizer.json`` that hub folders of SigLIP hold beside ``spiece.model``."""
    pieces, characters = _sentence_pieces(lower=True)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
            normalizers.Precompiled(characters),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def gemma() -> PreTrainedTokenizerBase:
    tokens, merges = _trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=400, show_progress=False),
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split("▁", "merged_with_next"),
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = _numbered(special, [f"<0x{byte:02X}>" for byte in range(256)], tokens)
    return _class("GemmaTokenizer")(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=False,
        add_eos_token=True,
        model_max_length=64,
    )
