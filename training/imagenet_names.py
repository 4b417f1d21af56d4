"""Make ``backprop/handlers/imagenet.json`` and its licence from WordNet 3.0.

Run it again only to change the table::

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
    python training/imagenet_names.py wordnet/usr/share/wordnet imagenet_synsets.txt

The second argument lists the 1,000 ImageNet-1k ids (``n01440764`` ...), one a line in class
order; ``timm`` ships it as ``timm/data/_info/imagenet_synsets.txt``. An id's digits are the
offset of its noun in WordNet 3.0. Names and words for which WordNet alone is not enough are in
``imagenet_everyday.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

EVERYDAY = Path(__file__).with_name("imagenet_everyday.json")
HANDLERS = Path(__file__).parents[1] / "backprop" / "handlers"
PHYSICAL_ENTITY = "00001930"
HYPERNYM = "@"
# A lemma loses a sense when a thing one can photograph is this much more often meant by it.
RIVAL_COUNT, RIVAL_RATIO = 5, 5


@dataclass(frozen=True)
class Synset:
    """One meaning: the words that share it, their sense keys, the offsets of its hypernyms."""

    lemmas: tuple[str, ...]
    keys: dict[str, str]
    parents: tuple[str, ...]


class WordNet:
    """The nouns of WordNet 3.0.

    Args:
        folder: holds ``data.noun``, ``index.noun``, ``cntlist.rev`` and ``noun.exc``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a file, its licence header left out."""
        for line in (self.folder / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                yield line

    @cached_property
    def synsets(self) -> dict[str, Synset]:
        """Offset to synset."""
        return {line[:8]: parsed(line) for line in self.lines("data.noun")}

    @cached_property
    def senses(self) -> dict[str, list[str]]:
        """Lower-case lemma to the offsets of its senses, most frequent first."""
        rows = (line.split() for line in self.lines("index.noun"))
        return {row[0]: row[-int(row[2]) :] for row in rows}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Sense key to how often WordNet's tagged texts have it; absent if never."""
        rows = (line.split() for line in self.lines("cntlist.rev"))
        return {key: int(count) for key, _, count in rows}

    def count(self, lemma: str, offset: str) -> int:
        """Return how often lower-case ``lemma`` stood for ``offset`` in the tagged texts."""
        return self.counts.get(self.synsets[offset].keys[lemma], 0)

    @cached_property
    def licence(self) -> str:
        """WordNet's licence, from the header of ``data.noun``."""
        text = (self.folder / "data.noun").read_text(encoding="utf-8").splitlines()
        header = [line.strip().partition(" ")[2].strip() for line in text if line.startswith("  ")]
        return "\n".join(header) + "\n"

    def ancestors(self, offset: str) -> set[str]:
        """Return ``offset`` and all its hypernyms."""
        found, waiting = set[str](), [offset]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting += self.synsets[current].parents
        return found

    def is_meant(self, lemma: str, offset: str) -> bool:
        """Return whether someone who labels photos may mean ``offset`` by ``lemma``."""
        lemma = lemma.lower()
        own = self.count(lemma, offset)
        return not any(
            self.count(lemma, rival) >= max(RIVAL_COUNT, RIVAL_RATIO * own)
            and PHYSICAL_ENTITY in self.ancestors(rival)
            for rival in self.senses[lemma]
            if rival != offset
        )


def parsed(line: str) -> Synset:
    """Return the synset of a line of ``data.noun`` (formats: wndb(5WN), senseidx(5WN))."""
    fields = line.partition(" | ")[0].split()
    words = int(fields[3], 16)
    pointers = fields[5 + 2 * words :]
    parents = (pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == HYPERNYM)
    lemmas, ids = fields[4 : 4 + 2 * words : 2], fields[5 : 5 + 2 * words : 2]
    keys = {
        lemma.lower(): f"{lemma.lower()}%1:{fields[1]}:{int(lexical_id, 16):02}::"
        for lemma, lexical_id in zip(lemmas, ids, strict=True)
    }
    return Synset(tuple(lemmas), keys, tuple(parents))


def synset_rows(wordnet: WordNet, classes: Sequence[str], keep: set[str]) -> list[list[object]]:
    """Return [lemmas joined by ``|``, parent rows] for each class in order, then each ancestor."""
    above = set[str]().union(*(wordnet.ancestors(offset) for offset in classes))
    order = [*classes, *sorted(above - set(classes))]
    row_of = {offset: row for row, offset in enumerate(order)}
    return [
        [
            "|".join(
                lemma.replace("_", " ")
                for lemma in wordnet.synsets[offset].lemmas
                if lemma.lower() in keep or wordnet.is_meant(lemma, offset)
            ),
            [row_of[parent] for parent in wordnet.synsets[offset].parents],
        ]
        for offset in order
    ]


def plurals(wordnet: WordNet, words: set[str]) -> dict[str, str]:
    """Return irregular plurals of ``words`` to their singulars."""
    pairs = (line.replace("_", " ").split(" ", 1) for line in wordnet.lines("noun.exc"))
    singles = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    return {plural: single for plural, single in singles.items() if single in words}


def display_names(wordnet: WordNet, classes: Sequence[str], overrides: dict[str, str]) -> list[str]:
    """Return one name a class, no two alike."""
    first = (wordnet.synsets[offset].lemmas[0].replace("_", " ") for offset in classes)
    names = [overrides.get(str(index), name) for index, name in enumerate(first)]
    places = defaultdict(list)
    for index, name in enumerate(names):
        places[name.lower()].append(index)
    if shared := {name: at for name, at in places.items() if len(at) > 1}:
        raise SystemExit(f"Classes share a name: {shared}; add names to {EVERYDAY.name}.")
    return names


def table(wordnet: WordNet, wnids: Sequence[str]) -> dict[str, object]:
    """Return the content of ``imagenet.json``."""
    everyday = json.loads(EVERYDAY.read_text(encoding="utf-8"))
    classes = [wnid[1:] for wnid in wnids]
    rows = synset_rows(wordnet, classes, set(everyday["keep"]))
    words = {lemma.lower() for row in rows for lemma in str(row[0]).split("|")}
    return {
        "about": "Derived from WordNet 3.0 by training/imagenet_names.py; see imagenet.LICENSE.",
        "wnids": list(wnids),
        "names": display_names(wordnet, classes, everyday["names"]),
        "synsets": rows,
        "instead": everyday["instead"],
        "also": everyday["also"],
        "plurals": plurals(wordnet, words | set(everyday["also"])),
    }


def main() -> None:
    """Write the table and its licence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wordnet", type=Path, help="folder with data.noun")
    parser.add_argument("wnids", type=Path, help="file with one wnid a line, in class order")
    arguments = parser.parse_args()
    wordnet = WordNet(arguments.wordnet)
    content = table(wordnet, arguments.wnids.read_text(encoding="utf-8").split())
    target = HANDLERS / "imagenet.json"
    target.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    notice = "imagenet.json is derived from WordNet 3.0, which has this licence:\n\n"
    (HANDLERS / "imagenet.LICENSE").write_text(notice + wordnet.licence, encoding="utf-8")


if __name__ == "__main__":
    main()
