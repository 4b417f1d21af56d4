"""Made-up conversations: facts about someone, then questions that lean on earlier ones.

Question sets have single questions; that "there" and "she" stand for what was said before has to be
learnt from these.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Turn", "talk"]

WOMEN = (
    "Anna Maria Sally Grace Emma Olivia Nina Clara Julia Ruth Helen Amara Priya Mei Fatima Ingrid "
    "Zoe Laura Beth Alice"
).split()
MEN = (
    "Tom Peter John Marco Ahmed Kenji Luis David Omar Stefan Paul Henry Ravi Ivan Jack Daniel Hugo "
    "Samuel Victor Leo"
).split()
PLACES = (
    "London Liverpool Leeds Paris Berlin Rome Madrid Tokyo Cairo Nairobi Toronto Sydney Oslo "
    "Vienna Dublin Lisbon Warsaw Athens Boston Chicago Glasgow Bristol Lima Delhi Prague"
).split()
JOBS = (
    *("nurse", "teacher", "baker", "lawyer", "plumber", "software engineer", "chef", "pilot"),
    *("carpenter", "journalist", "farmer", "doctor", "librarian", "bus driver", "dentist"),
)
EMPLOYERS = (
    *("Acme", "Northwind", "Siemens", "the BBC", "Tesco", "the city council", "a small bakery"),
    *("Oxfam", "Airbus", "the local hospital", "Ikea", "Nokia"),
)
PETS = ("dog", "cat", "parrot", "rabbit", "horse", "hamster")
PET_NAMES = "Rex Bella Coco Daisy Max Luna Oscar Milo Ruby Biscuit".split()
INSTRUMENTS = ("piano", "violin", "guitar", "drums", "flute", "cello")
SPORTS = ("tennis", "football", "chess", "swimming", "badminton", "judo")
FOODS = ("pizza", "sushi", "lentil soup", "roast chicken", "pancakes", "fried rice", "apple pie")
CARS = ("red Toyota", "blue Ford", "electric Renault", "second-hand Volvo", "white van")
BUILDINGS = ("bakery", "museum", "library", "school", "bridge", "hotel")
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
).split()


class Turn(NamedTuple):
    """A question, and what was asked and answered before it."""

    context: str
    history: list[tuple[str, str]]
    question: str
    answer: str


class Fact(NamedTuple):
    """A question in full, as one that follows another, and its answer."""

    question: str
    follow_up: str
    answer: str


@dataclass
class Person:
    """Someone, and what may be said of them; each draw is the random generator's."""

    chance: random.Random

    def __post_init__(self) -> None:
        """Draw a name and its pronouns."""
        is_woman = self.chance.random() < 0.5
        self.name = self.chance.choice(WOMEN if is_woman else MEN)
        self.friend = self.chance.choice([name for name in (*WOMEN, *MEN) if name != self.name])
        self.he, self.his = ("she", "her") if is_woman else ("he", "his")
        self.places = self.chance.sample(PLACES, 3)
        self.year = str(self.chance.randint(1975, 2023))

    def number(self) -> str:
        """Return a small number in digits or in words."""
        number = self.chance.randint(2, 14)
        return self.chance.choice([str(number), NUMBERS[number]])


def homes(person: Person) -> tuple[list[str], list[Fact]]:
    """Return where someone lives and lived."""
    name, he, choice = person.name, person.he, person.chance.choice
    here, before, _ = person.places
    span = f"{person.number()} {choice(['years', 'months', 'years'])}"
    earlier = [
        f"Previously, {name} lived in {before}.",
        f"Before that, {he} lived in {before}.",
        f"{he.capitalize()} used to live in {before}.",
        f"{he.capitalize()} moved there from {before}.",
    ]
    where = [f"Where did {he} live before?", "And before that?", f"Where was {he} before?"]
    long = [f"How long has {he} lived there?", "For how long?", f"How long has {he} been there?"]
    return [f"{name} has been living in {here} for {span}.", choice(earlier)], [
        Fact(f"Where does {name} live?", f"Where does {he} live?", here),
        Fact(f"How long has {name} lived in {here}?", choice(long), span),
        Fact(f"Where did {name} live previously?", choice(where), before),
    ]


def work(person: Person) -> tuple[list[str], list[Fact]]:
    """Return what someone does and did."""
    name, he, choice = person.name, person.he, person.chance.choice
    job, old_job = person.chance.sample(JOBS, 2)
    employer = choice(EMPLOYERS)
    sentences = [
        f"{name} works as a {job} at {employer}.",
        f"{he.capitalize()} started there in {person.year}.",
        f"Earlier {he} was a {old_job} in {person.places[1]}.",
    ]
    started = choice([f"When did {he} start there?", "Since when?"])
    old = choice([f"What was {he} before?", f"What did {he} do earlier?"])
    return sentences, [
        Fact(f"What is {name}'s job?", f"What does {he} do?", job),
        Fact(f"Where does {name} work?", f"Where does {he} work?", employer),
        Fact(f"When did {name} start at {employer}?", started, person.year),
        Fact(f"What was {name} earlier?", old, old_job),
    ]


def pet(person: Person) -> tuple[list[str], list[Fact]]:
    """Return someone's pet, and what a friend likes."""
    name, choice = person.name, person.chance.choice
    kind, called = choice(PETS), choice(PET_NAMES)
    liked, preferred = person.chance.sample(FOODS, 2)
    age = f"{person.number()} years"
    sentences = [
        f"{name} has a {kind} called {called}.",
        f"{called} is {age} old and likes {liked}.",
        f"{name}'s friend {person.friend} prefers {preferred}.",
    ]
    return sentences, [
        Fact(f"What pet does {name} have?", f"What animal is {called}?", kind),
        Fact(
            f"What is the {kind} called?",
            choice(["What is it called?", "What is its name?"]),
            called,
        ),
        Fact(f"How old is {called}?", choice(["How old is it?", "And how old?"]), age),
        Fact(f"What does {called} like?", "What does it like?", liked),
        Fact(f"Who prefers {preferred}?", f"Who is {person.his} friend?", person.friend),
    ]


def siblings(person: Person) -> tuple[list[str], list[Fact]]:
    """Return what two siblings play and where they live."""
    name, other = person.name, person.friend
    grown, here, there = person.places
    instrument, sport = person.chance.choice(INSTRUMENTS), person.chance.choice(SPORTS)
    sentences = [
        f"{name} plays the {instrument} and {person.his} brother {other} plays {sport}.",
        f"They grew up in {grown}.",
        f"{name} now lives in {here}, {other} in {there}.",
    ]
    return sentences, [
        Fact(f"What instrument does {name} play?", f"What does {person.he} play?", instrument),
        Fact(f"Who is {name}'s brother?", f"Who is {person.his} brother?", other),
        Fact(f"What does {other} play?", "What does he play?", sport),
        Fact(f"Where did {name} and {other} grow up?", "Where did they grow up?", grown),
        Fact(f"Where does {name} live now?", f"Where does {person.he} live now?", here),
    ]


def car(person: Person) -> tuple[list[str], list[Fact]]:
    """Return what someone bought."""
    choice, who = person.chance.choice, person.friend
    bought, price = choice(CARS), f"{person.chance.randint(2, 40) * 500} euros"
    when = choice(["May", "June", "March", "winter"])
    sentences = [f"{who} bought a {bought} in {person.places[0]} last {when}.", f"It cost {price}."]
    cost = choice(["How much did it cost?", "What was the price?"])
    return sentences, [
        Fact(f"What did {who} buy?", "What was bought?", bought),
        Fact(f"Where did {who} buy the car?", "Where was it bought?", person.places[0]),
        Fact(f"How much did the {bought} cost?", cost, price),
    ]


def building(person: Person) -> tuple[list[str], list[Fact]]:
    """Return who built something, and when."""
    choice = person.chance.choice
    sentences = [
        f"The {choice(BUILDINGS)} in {person.places[0]} was built in {person.year}.",
        f"{person.name} designed it.",
        f"It was repaired by {person.friend} {person.number()} years later.",
    ]
    designed = choice(["Who designed it?", "By whom was it designed?"])
    repaired = choice(["Who repaired it?", "And who repaired it later?"])
    return sentences, [
        Fact("When was it built?", "When was it built?", person.year),
        Fact("Who designed it?", designed, person.name),
        Fact("Who repaired it?", repaired, person.friend),
        Fact("Where is it?", "Where is it?", person.places[0]),
    ]


STORIES = (homes, work, pet, siblings, car, building)
MOST_TURNS = 3
FOLLOWING = 0.8
"""Share of later questions that are put as follow-ups."""


def talk(chance: random.Random) -> list[Turn]:
    """Return the turns of a conversation, each with all before it as history."""
    sentences, facts = chance.choice(STORIES)(Person(chance))
    context = " ".join(sentences)
    history: list[tuple[str, str]] = []
    turns = []
    for fact in chance.sample(facts, chance.randint(2, min(MOST_TURNS, len(facts)))):
        follows = history and chance.random() < FOLLOWING
        question = fact.follow_up if follows else fact.question
        turns.append(Turn(context, list(history), question, fact.answer))
        history.append((question, fact.answer))
    return turns
