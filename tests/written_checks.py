"""Checks of the handlers that write: one each, listed in handler_checks."""

from __future__ import annotations

import math

from backprop.engines import Decoding
from backprop.handlers.answers import EXAMPLES, GroundedAnswers, QAPrompt, WrittenAnswers
from backprop.handlers.generate import TextGenerations
from backprop.handlers.prompts import ChatTemplate
from backprop.handlers.summaries import Summaries, WrittenEmotions
from backprop.handlers.writer import Writer
from tests import fakes
from tests.by_hand import refused, same, texts
from tests.fakes import byte_tokens

CHAT = ChatTemplate("{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[bot]", {})


def writer(
    reply: fakes.Reply,
    *,
    shared_room: bool = True,
    max_length: int = 4096,
    chat: ChatTemplate | None = None,
) -> Writer:
    tokens = byte_tokens(max_length=max_length)
    generator = fakes.FakeGenerator(tokens, reply)
    defaults = Decoding(max_new=100)
    return Writer(generator, tokens, shared_room=shared_room, defaults=defaults, chat=chat)


def prompts_of(own: Writer) -> list[str]:
    generator = own.generator
    assert isinstance(generator, fakes.FakeGenerator)
    return generator.prompts


def check_text_generations() -> None:
    two = writer(lambda prompt: [(f" {prompt}, 😀 and so on.", -1.0), (" other", -2.0)])
    handler = TextGenerations(two)
    assert handler.answer(texts("ab", "c"), {}) == [" ab, 😀 and so on.", " c, 😀 and so on."]
    assert handler.answer(texts("ab"), {"num_generations": 2, "do_sample": True}) == [
        [" ab, 😀 and so on.", " other"]
    ]
    assert handler.answer(texts("ab"), {"max_length": 3}) == [" ab"]
    assert handler.answer(texts("ab"), {"stop": ["on", " and"]}) == [" ab, 😀"]
    assert handler.answer(texts("ab"), {"stop": ["😀"]}) == [" ab, "]
    for stop in ([], ["on", " and"], ["😀"], [" ab"], [".x", "."]):
        options = {"stop": stop} if stop else {}
        pieces = list(handler.stream(texts("ab")[0], options))
        assert ["".join(pieces)] == handler.answer(texts("ab"), options), (stop, pieces)
        assert all(pieces) and not any("\ufffd" in piece for piece in pieces), pieces
    assert len(list(handler.stream(texts("ab")[0], {}))) > 5  # piece by piece, not all at the end
    refused(lambda: handler.stream(texts("ab")[0], {"num_beams": 2}), "num_beams")
    refused(lambda: handler.answer(texts("ab"), {"max_length": 4095}), "2 tokens", "4094", "4095")
    chat = TextGenerations(writer(lambda _: [(" Hi. ", 0.0)], chat=CHAT), prompt="Say {text}")
    assert chat.answer(texts("hi"), {}) == ["Hi."]
    assert prompts_of(chat.writer) == ["[user]Say hi\n[bot]"]
    assert "".join(chat.stream(texts("hi")[0], {})) == "Hi."
    assert handler.answer([], {}) == []


def check_summaries() -> None:
    # What is written: the first word of each sentence, as a sentence.
    def first_words(prompt: str) -> list[tuple[str, float]]:
        sentences = prompt.removeprefix("tl: ").strip(". ").split(". ")
        return [(" ".join(sentence.split()[0] + "." for sentence in sentences), 0.0)]

    short = "Alpha is a letter. Beta is another one."
    handler = Summaries(writer(first_words, shared_room=False, max_length=70), prompt="tl: {text}")
    assert handler.answer(texts(short, "Gamma rays."), {}) == ["Alpha. Beta.", "Gamma."]
    long = " ".join(
        f"W{i} goes here with other words." for i in range(6)
    )  # 185 tokens, room for 66
    # Three parts, whose summaries have 23 tokens; theirs may have 16, the fewest it stops at.
    assert handler.answer(texts(short, long), {}) == ["Alpha. Beta.", "W0. W1. W2. W3."]
    assert len(prompts_of(handler.writer)) == 2 + 1 + 3 + 1
    assert handler.answer(texts(long), {"long": "truncate"}) == ["W0. W1."]
    refused(lambda: handler.answer(texts(long), {"long": "error"}), "185 tokens", "66")
    refused(lambda: handler.answer(texts(long), {"style": "extractive"}), "style")
    one = Summaries(handler.writer, prompt="tl: {text}", sentences=1)
    assert one.answer(texts(short), {}) == ["Alpha."]
    assert handler.answer([], {}) == []


def check_written_emotions() -> None:
    def loudest(prompt: str) -> list[tuple[str, float]]:
        return [("anger" if "!" in prompt else "joy", 0.0)]

    own = writer(loudest, shared_room=False, max_length=40)
    handler = WrittenEmotions(own, prompt="emotion: {text}")
    assert handler.answer(texts("Nice.", "Damn!"), {}) == ["joy", "anger"]
    # Four parts of a sentence each, three of them calm.
    long = "This is very nice here. Get out of my house! I like it here a lot. So good to be here."
    assert handler.answer(texts(long), {}) == ["joy"]
    assert handler.answer(texts(long[24:]), {"long": "truncate"}) == ["anger"]
    refused(lambda: handler.answer(texts("Nice."), {"top_k": 2}), "top_k")
    assert handler.answer([], {}) == []


def check_written_answers() -> None:
    def london(prompt: str) -> list[tuple[str, float]]:
        return [("London", -0.25) if "London" in prompt else ("nowhere", -3.0)]

    prompt = QAPrompt(ask="Q: {question} T: {context}", turn="Q: {question} A: {answer} ")
    handler = WrittenAnswers(writer(london, shared_room=False, max_length=60), prompt=prompt)
    row = {"question": "Where?", "context": "She is in london, UK. London.", "prev_q": ["Who?"]}
    row["prev_a"] = ["{Sally}"]
    assert handler.answer([row], {}) == ["London"]
    expected = "Q: Who? A: {Sally} Q: Where? T: She is in london, UK. London."
    assert len(expected) > 60 and expected not in prompts_of(handler.writer)  # so in windows
    context = f"{'so ' * 30}London{' so' * 30}"
    [found] = handler.answer([{"question": "Where?", "context": context}], {"details": True})
    assert (found["answer"], found["start"], found["end"]) == ("London", 90, 96)
    same(found["score"], math.exp(-0.25))
    [found] = handler.answer([{"question": "Where?", "context": "so"}], {"details": True})
    assert (found["answer"], found["start"], found["end"]) == ("nowhere", -1, -1)
    silent = WrittenAnswers(writer(lambda _: [("", -0.5)], shared_room=False), prompt=prompt)
    assert silent.answer([row], {"allow_no_answer": True}) == [""]
    assert prompts_of(silent.writer) == [expected]
    assert handler.answer([], {}) == []


def check_grounded_answers() -> None:
    said = {"Where?": " New York", "Who?": " Bob", "When?": " unanswerable", "Far?": " at last"}

    def reply(prompt: str) -> list[tuple[str, float]]:
        question = prompt.rpartition("Question: ")[2].split("\n")[0]
        sure = question != "Far?" or "last" in prompt.rpartition("Text: ")[2]
        return [(said[question], -0.1 if sure else -4.0)]

    handler = GroundedAnswers(writer(reply, chat=CHAT))
    context = "Sally lives in New York."
    rows = [{"question": question, "context": context} for question in ("Where?", "Who?", "When?")]
    where, who, when = handler.answer(rows, {"details": True})
    assert (where["answer"], where["start"], where["end"]) == ("New York", 15, 23)
    same(where["score"], math.exp(-0.1))
    for found in (who, when):  # what was to be written is not in the context
        assert found["answer"] and found["answer"] == context[found["start"] : found["end"]]
    assert handler.answer(rows, {"allow_no_answer": True})[::2] == ["New York", ""]
    past = {**rows[0], "prev_q": ["Who?"], "prev_a": ["Sally"]}
    handler.answer([past], {})
    asked = prompts_of(handler.writer)[-1]
    assert asked.endswith(
        f"[user]Text: {context}\nQuestion: Who?\n[assistant]Answer: Sally\n"
        "[user]Question: Where?\n[bot]Answer:"
    )
    assert all(text in asked for text, _ in EXAMPLES)
    long = f"{'It is so. ' * 150}Here at last."  # 1,513 tokens, windows of 1,024
    [found] = handler.answer([{"question": "Far?", "context": long}], {"details": True})
    assert (found["answer"], found["start"], found["end"]) == ("at last", 1505, 1512)
    same(found["score"], math.exp(-0.1))
    assert handler.answer([], {}) == []
