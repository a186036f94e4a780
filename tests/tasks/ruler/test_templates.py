"""The texts, character by character."""

from tasks.ruler import templates
from tasks.ruler.haystack import DEPTHS, insert_at_depths, insert_at_indexes


def test_needles_in_the_plural():
    prompt, prefix = templates.niah("numbers", "TEXT", ["red-cat", "old-hat"], singular=False)
    assert prompt == (
        "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will "
        "quiz you about "
        "the numbers afterwards.\nTEXT\nWhat are all the special magic numbers for red-cat, and old-hat "
        "mentioned in the "
        "provided text?"
    )
    assert prefix == " The special magic numbers for red-cat, and old-hat mentioned in the provided text are"


def test_one_needle_is_asked_for_in_the_singular_but_hidden_in_the_plural():
    prompt, prefix = templates.niah("uuids", templates.needle("uuids", "red-cat", "17"), ["red-cat"], singular=True)
    assert prompt == (
        "A special magic uuid is hidden within the following text. Make sure to memorize it. I will quiz you "
        "about the uuid "
        "afterwards.\nOne of the special magic uuids for red-cat is: 17.\nWhat is the special magic uuid for red-cat "
        "mentioned in the provided text?"
    )
    assert prefix == " The special magic uuid for red-cat mentioned in the provided text is"


def test_braces_in_a_context_are_left_alone():
    assert "{query} {0}" in templates.niah("numbers", "{query} {0}", ["k"], singular=False)[0]


def test_enumerations():
    assert [templates.enumeration(list(s)) for s in ("a", "ab", "abcd")] == ["a", "a, and b", "a, b, c, and d"]


def test_variable_tracking():
    lines = [*templates.chain_lines(["AB", "CD"], "12345"), templates.NOISE]
    prompt, prefix = templates.vt(lines, "12345", 2)
    assert prompt == (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\nVAR AB = 12345\n"
        "VAR CD = VAR AB \nThe grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
        "Question: Find all variables that are assigned the value 12345 in the text above."
    )
    assert prefix == (
        " Answer: According to the chain(s) of variable assignment in the text above, 2 variables are "
        "assigned the value "
        "12345, they are: "
    )


def test_common_words():
    assert templates.cwe_example(["b", "a", "b"], ["b"], 10) == (
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
        "appear most often.\n1. b 2. a 3. b\nQuestion: What are the 10 most common words in the above list? "
        "Answer: The top "
        "10 words that appear most often in the list are: 1. b"
    )


def test_frequent_words():
    assert "".join(templates.fwe(["...", "abc"])) == (
        "Read the following coded text and track the frequency of each coded word. Find the three most "
        "frequently appeared "
        "coded words. ... abc\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What "
        "are the three "
        "most frequently appeared words in the above coded text? Answer: According to the coded text above, "
        "the three most "
        "frequently appeared words are:"
    )


def test_questions():
    task = (
        "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    )
    assert "".join(templates.qa(["one", "two"], "Why?")) == (
        f"{task}\n\nThe following are given documents.\n\nDocument 1:\none\n\nDocument 2:\ntwo\n\n{task}\n\n"
        "Question: Why? Answer:"
    )


def test_the_forty_depths():
    assert tuple(round(100 * i / 39) for i in range(40)) == DEPTHS


def test_needles_between_sentences():
    assert insert_at_depths(["a.", "b.", "c.", "d."], ["N1", "N2"], [26, 51]) == "a. N1 b. N2 c. d."
    assert insert_at_depths(["a.", "b."], ["N1", "N2"], [0, 0]) == " N1  N2 a. b."
    assert insert_at_indexes(["a", "b", "c"], ["N1", "N2"], [2, 0]) == "N2\na\nb\nN1\nc"
