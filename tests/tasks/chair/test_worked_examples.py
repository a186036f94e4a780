"""The worked examples of the specification, for each normaliser; `lemma` with NLTK where its data is installed."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from tasks.chair import lemma
from tasks.chair.count import mentions
from tasks.chair.singular import singular
from tasks.chair.tokens import tokens
from tasks.chair.vocabulary import read
from tests.tasks.chair.material import nodes

FOUR_DOGS = ["dog"] * 4
# caption, builtin, lemma (the papers), singular (the original)
EXAMPLES = [
    ("Two men.", [], [], ["person"]),
    ("A man is seated at a table.", ["person", "dining table"], ["person", "chair", "dining table"],
     ["person", "dining table"]),
    ("They were skiing down the slope.", [], ["skis"], []),
    ("She phoned her mother.", ["person"], ["cell phone", "person"], ["person"]),
    ("A bus on the street.", ["bus"], ["bus"], []),
    ("Vases, vase.", ["vase", "vase"], ["vase"], ["vase", "vase"]),
    ("Parking meters line the sidewalk.", ["parking meter"], [], ["parking meter"]),
    ("An orange shirt hangs on the wall.", ["orange"], ["orange"], ["orange"]),
    ("The seat of the toilet is up.", ["toilet"], ["toilet"], ["toilet"]),
    ("A motor bike parked outside.", [], [], []),
    ("A baby elephant with an adult elephant.", ["elephant"] * 2, ["elephant"] * 2, ["elephant"] * 2),
    ("There is no dog in the image.", ["dog"], ["dog"], ["dog"]),
    ("dog/cat/horse", [], [], []),
    ("A cell-phone.", [], [], []),
    ("A dog dog dog dog.", FOUR_DOGS, FOUR_DOGS, FOUR_DOGS),
    ("", [], [], []),
]  # fmt: skip
CAPTIONS = [row[0] for row in EXAMPLES]


@pytest.mark.parametrize(("caption", "expected"), [(row[0], row[1]) for row in EXAMPLES], ids=CAPTIONS)
def test_builtin(caption: str, expected: list[str]) -> None:
    assert nodes(caption) == expected


@pytest.mark.parametrize(("caption", "expected"), [(row[0], row[3]) for row in EXAMPLES], ids=CAPTIONS)
def test_singular(caption: str, expected: list[str]) -> None:
    assert nodes(caption, "singular") == expected


@pytest.mark.parametrize(("caption", "expected"), [(row[0], row[2]) for row in EXAMPLES], ids=CAPTIONS)
def test_lemma_with_nltk(caption: str, expected: list[str]) -> None:
    try:
        lemma.check()
    except UserError as error:
        pytest.skip(str(error))
    assert nodes(caption, "lemma") == expected


# What NLTK's tagger and WordNet say about the words of the examples that are not their own lemma.
TAGS = {"seated": "VBN", "skiing": "VBG", "phoned": "VBD", "vases": "NNS", "parking": "VBG", "meters": "NNS",
        "men": "NNS", "hangs": "VBZ", "parked": "VBD"}  # fmt: skip
LEMMAS = {("seated", "v"): "seat", ("skiing", "v"): "ski", ("phoned", "v"): "phone", ("vases", "n"): "vas",
          ("parking", "v"): "park", ("meters", "n"): "meter", ("hangs", "v"): "hang", ("parked", "v"): "park"}  # fmt: skip


@pytest.mark.parametrize(("caption", "expected"), [(row[0], row[2]) for row in EXAMPLES], ids=CAPTIONS)
def test_lemma_with_a_tagger_and_a_lemmatiser_in_place_of_nltk(caption: str, expected: list[str]) -> None:
    normalise = lemma.lemmas(
        tokens,
        lambda words: [(word, TAGS.get(word, "DT")) for word in words],
        lambda word, part: LEMMAS.get((word, part), word),
    )
    assert list(mentions(normalise(caption), read()).nodes) == expected


def test_tags_map_to_wordnets_parts_of_speech_and_others_to_nouns() -> None:
    given = {"red": "JJR", "ran": "VBD", "dogs": "NNS", "fast": "RB", "the": "DT", "up": "RP"}
    normalise = lemma.lemmas(
        str.split, lambda words: [(w, given[w]) for w in words], lambda word, part: f"{word}/{part}"
    )
    assert normalise("Red RAN dogs fast the up") == ["red/a", "ran/v", "dogs/n", "fast/r", "the/n", "up/r"]


def test_lemma_without_nltk_or_its_data_says_what_to_install() -> None:
    try:
        lemma.check()
    except UserError as error:
        message = str(error)
        assert "python -m nltk.downloader" in message and "normaliser=builtin" in message
    else:
        assert set(lemma.provenance()) == {"nltk", "nltk_data"}


# -- builtin ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("women, children, gentlemen, policemen, grandchildren and thieves", ["person"] * 6),
        ("geese", ["bird"]),
        ("oxen and calves", ["cow", "cow"]),
        ("mice beside knives", ["mouse", "knife"]),
        ("puppies, ponies and ladies", ["dog", "horse", "person"]),
        ("buses, benches, couches, boxes", ["bus", "bench", "couch"]),
        ("two wine glasses and hot dogs", ["wine glass", "hot dog"]),
        ("baseball gloves, canoes, stoves, skis", ["baseball glove", "boat", "oven", "skis"]),
        ("ties and doggies and collies", ["tie", "dog", "dog"]),
        ("the dog's ball and the dogs’ bowl", ["dog", "sports ball", "dog", "bowl"]),
        ("**Dog**, [cat] and “horse”!", ["dog", "cat", "horse"]),
        ("grey skies, his boss, the glass", []),  # -es only where English has it: no ski; no -s after s
        ("a stop. Sign here", []),  # no pair across a mark
        ("traffic lights at the train tracks", ["traffic light"]),
        ("a passenger jet and a bow tie", ["airplane", "tie"]),
        ("A laptop computer, a mobile phone", ["laptop", "cell phone"]),
    ],
)
def test_builtin_maps_plurals_to_the_vocabulary(caption: str, expected: list[str]) -> None:
    assert nodes(caption) == expected


def test_men_count_only_if_asked() -> None:
    assert nodes("Two men and women.") == ["person"]
    assert nodes("Two men and women.", count_men=True) == ["person", "person"]


def test_tokens_keep_what_a_treebank_tokeniser_keeps() -> None:
    assert tokens("It's 3.5 m, don't... (T-shirt)") == [
        "it",
        "'s",
        "3.5",
        "m",
        ",",
        "don't",
        "...",
        "(",
        "t-shirt",
        ")",
    ]
    assert tokens("dog/cat 'dog' dogs' 10:30") == ["dog/cat", "'", "dog", "'", "dogs", "'", "10:30"]
    assert tokens(" \n") == []


# -- singular --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "expected"),
    # as clips/pattern answers
    [("bus", "bu"), ("buses", "bus"), ("glass", "glas"), ("glasses", "glass"), ("skis", "ski"), ("ties", "ty"),
     ("women", "woman"), ("people", "person"), ("canoes", "cano"), ("thieves", "thieve"), ("knives", "knife"),
     ("calves", "calf"), ("gloves", "glove"), ("scissors", "scissors"), ("collies", "collies"), ("puppies", "puppy"),
     ("mice", "mouse"), ("vases", "vase"), ("bases", "basis"), ("locomotives", "locomotive"), ("skies", "sky")],
)  # fmt: skip
def test_the_singulariser_is_the_originals_errors_included(token: str, expected: str) -> None:
    assert singular(token) == expected
