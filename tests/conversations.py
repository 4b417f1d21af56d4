"""Conversations about a text: what ``minilm-qa`` must answer, and has not been trained on."""

from typing import NamedTuple

__all__ = ["CONVERSATIONS", "Conversation"]


class Conversation(NamedTuple):
    """A text, and questions with their answers; each question may lean on those before it."""

    context: str
    turns: list[tuple[str, str]]


SALLY = "Sally has been living in London for 3 years. Previously, Sally lived in Liverpool."

CONVERSATIONS = [
    Conversation(
        SALLY, [("Where does Sally live?", "London"), ("How long has she lived there?", "3 years")]
    ),
    Conversation(
        SALLY,
        [
            ("How long has Sally lived in London?", "3 years"),
            ("Where did she live before?", "Liverpool"),
        ],
    ),
    Conversation(
        "The Eiffel Tower was finished in 1889. It is 330 metres tall and was designed by the "
        "engineers of Gustave Eiffel.",
        [("When was the Eiffel Tower finished?", "1889"), ("How tall is it?", "330 metres")],
    ),
    Conversation(
        "Marie Curie discovered polonium in 1898. She named it after Poland, where she was born.",
        [
            ("What did Marie Curie discover?", "polonium"),
            ("When did she discover it?", "1898"),
            ("What did she name it after?", "Poland"),
        ],
    ),
    Conversation(
        "Our shop opens at nine on weekdays and at ten on Saturdays. It is closed on Sundays.",
        [
            ("When does the shop open on weekdays?", "nine"),
            ("And on Saturdays?", "ten"),
        ],
    ),
    Conversation(
        "Lake Baikal in Siberia is the deepest lake in the world. It holds a fifth of the world's "
        "fresh water and is 1,642 metres deep.",
        [("Which lake is the deepest in the world?", "Baikal"), ("Where is it?", "Siberia")],
    ),
    Conversation(
        "The recipe needs 200 grams of flour, two eggs and a pinch of salt. It bakes for an hour.",
        [("How much flour is needed?", "200 grams"), ("How many eggs?", "two")],
    ),
    Conversation(
        "The match between Arsenal and Chelsea was won by Arsenal. Saka scored the first goal "
        "after 12 minutes.",
        [("Who won the match?", "Arsenal"), ("Who scored the first goal?", "Saka")],
    ),
    Conversation(
        "The train to Edinburgh leaves from platform 4 at half past six. The journey takes five "
        "hours.",
        [
            ("Which platform does the train to Edinburgh leave from?", "4"),
            ("How long does the journey take?", "five hours"),
        ],
    ),
    Conversation(
        "Dr Okafor sees patients on Tuesdays. Her practice is in Mill Lane, above the pharmacy.",
        [
            ("When does Dr Okafor see patients?", "Tuesdays"),
            ("Where is her practice?", "Mill Lane"),
        ],
    ),
    Conversation(
        "Apollo 11 landed on the Moon on 20 July 1969. Neil Armstrong was the first to step out, "
        "followed by Buzz Aldrin.",
        [
            ("When did Apollo 11 land on the Moon?", "20 July 1969"),
            ("Who was the first to step out?", "Neil Armstrong"),
            ("Who followed him?", "Buzz Aldrin"),
        ],
    ),
    Conversation(
        "The printer costs 129 pounds. Ink for it costs 24 pounds and lasts for 300 pages.",
        [
            ("How much does the printer cost?", "129 pounds"),
            ("How long does the ink last?", "300 pages"),
        ],
    ),
]
