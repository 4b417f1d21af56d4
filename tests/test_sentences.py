import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop.handlers.sentences import split

# A text with a mark | wherever one sentence ends and another begins.
TEXTS = {
    "plain": "She lives here.| He does not!| Why not?| Nobody knows.",
    "no final mark": "She lives here.| He does not",
    "one": "Hello",
    "abbreviations": "Dr. Smith met Mrs. Jones at St. Mary's.| They left at 5 p.m. on Friday.",
    "latin": "Use fruit, e.g. Apples.| See Fig. 3, fig. 4 and Eq. 2 by Li et al. They hold.",
    "months": "It began on Jan. 5 and ended on Sat. 9 Dec. 2009.| Then it rained.",
    "ordinary words": "The cat sat.| The dog saw the sun.| They wed.| I ate a fig.| It made a mar.",
    "no": "Did he say no.| No.| He did not.| See No. 5 there.",
    "decimals": "It rose by 0.8 degrees to 3.14.| Version 2.0 costs $1.50.| Done.",
    "initials": "J. R. R. Tolkien and George W. Bush met.| They talked.",
    "acronym": "The U.S. Army and the U.K. Government agreed.| Both left.",
    "quotes": 'He said "Stop!" and left.| "Why?" she asked.| "I see."| (It is so.)| Good.',
    "curly quotes": "“Stop!” he said.| ‘Why?’ she asked.| “Go.”| He went.",
    "ellipses": "Well... maybe not.| Wait...| He left.| So… it goes.| And then…| Silence.",
    "several marks": "What?!| No way!!!| Really?!?| Yes.",
    "addresses": "See www.example.com or mail a.b@c.org today.| Bye.",
    "empty lines": "A title\n\n|First line\nsecond line.|\n \n Next paragraph",
    "empty line after an abbreviation": "Signed, Mr.\n\n|Smith is here.",
    "full-width": "彼は来た。|本当？|はい！|終わり",
    "full-width, several marks": "本当？！|はい。",
    "full-width, quoted": "「はい。」と言った。|次。",
    "quoted sentences": "「はい。」「いいえ。」".replace("」「", "」|「"),
    "lower case next": "He uses five. and six?| are you ok?| i am fine.",
}


@pytest.mark.parametrize("marked", TEXTS.values(), ids=TEXTS)
def test_sentences_end_where_they_should(marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    text = marked.replace("|", "")
    assert [sentence.text for sentence in split(text)] == expected


@pytest.mark.parametrize("text", ["", "   ", "\n\n", " \t\n \n\u3000"])
def test_blank_text_has_none(text: str) -> None:
    assert split(text) == []


LETTERS = st.sampled_from("aB1 .\n!?…。？」\"”)'\u3000\t-é😀")
WORDS = st.sampled_from(["Mr. ", "e.g. ", "No. ", "The ", "cat. ", "3.5 ", "U.S. ", '"So!" '])


@settings(max_examples=300)
@given(st.lists(WORDS | st.text(LETTERS | st.characters(), max_size=6), max_size=20))
def test_only_white_space_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    sentences = split(text)
    end = 0
    for sentence in sentences:
        assert text[sentence.start : sentence.end] == sentence.text
        assert sentence.text and sentence.text == sentence.text.strip()
        assert sentence.start >= end
        assert not text[end : sentence.start].strip()
        end = sentence.end
    assert not text[end:].strip()


def test_a_long_text_takes_no_time() -> None:
    assert len(split("It is so. " * 20_000)) == 20_000
    assert len(split("." * 100_000 + "a")) == 1
    assert len(split("。" * 100_000 + "」a")) == 1
    assert len(split("\n" * 50_000 + "a")) == 1
