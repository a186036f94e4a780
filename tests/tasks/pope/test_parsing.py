"""The six policies on every worked example of the literature's answers, and on garbage."""

from __future__ import annotations

import pytest

from tasks.pope.parsing import POLICIES, lmms, official, opera, strict, vcd, vlmevalkit

# answer, official, opera, vcd (contains yes, contains no), lmms, vlmevalkit, strict
TABLE = [
    ("No, there is no dog.", "no", "no", "-", "no", "unknown", "no", "no"),
    ("There isn't a dog.", "yes", "no", "-", "-", "unknown", "unknown", "no"),
    ("NO", "yes", "no", "-", "no", "no", "no", "no"),
    ("No!", "yes", "yes", "-", "no", "unknown", "no", "no"),
    ("Yes. There is no cat though.", "yes", "no", "yes", "no", "unknown", "unknown", "yes"),
    ("I see a dog. There is no cat.", "yes", "no", "-", "no", "unknown", "no", "no"),
    ("None.", "yes", "yes", "-", "no", "unknown", "unknown", "no"),
    ("Nope.", "yes", "yes", "-", "no", "unknown", "unknown", "no"),
    ("", "yes", "yes", "-", "-", "unknown", "unknown", "unknown"),
    ("I cannot see it", "yes", "yes", "-", "no", "unknown", "unknown", "unknown"),
    ("Snow is visible", "yes", "yes", "-", "no", "unknown", "unknown", "unknown"),
    ("Norway", "yes", "yes", "-", "no", "unknown", "unknown", "unknown"),
    ("Not visible.", "yes", "yes", "-", "no", "unknown", "unknown", "no"),
    ("Mr. Smith is not here", "yes", "no", "-", "no", "unknown", "unknown", "no"),
    ("Yes and no", "no", "no", "yes", "no", "unknown", "unknown", "yes"),
    ("No\nExplanation: yes", "yes", "yes", "yes", "no", "unknown", "unknown", "no"),
    ("No。", "yes", "yes", "-", "no", "unknown", "unknown", "no"),
    ("**No**", "yes", "yes", "-", "no", "unknown", "unknown", "no"),
    ("(no)", "yes", "yes", "-", "no", "unknown", "no", "no"),
    ("There are two dogs and no cats.", "no", "no", "-", "no", "unknown", "no", "no"),
    ("No.", "no", "no", "-", "no", "unknown", "no", "no"),
    ("Yes", "yes", "yes", "yes", "-", "yes", "yes", "yes"),
    (" yes ", "yes", "yes", "yes", "-", "yes", "yes", "yes"),
    ("Yeah, a dog.", "yes", "yes", "-", "-", "unknown", "unknown", "yes"),
    ("There isn’t one", "yes", "yes", "-", "-", "unknown", "unknown", "no"),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] or "(empty)" for row in TABLE])
def test_every_policy_reads_the_worked_examples_as_specified(row):
    text, *expected = row
    has_yes = "yes" if vcd(text, "yes") == "yes" else "-"
    has_no = "no" if vcd(text, "no") == "no" else "-"
    found = [official(text), opera(text), has_yes, has_no, lmms(text), vlmevalkit(text), strict(text)]
    assert found == expected


def test_vcd_depends_on_the_label():
    assert [vcd("Yes and no", label) for label in ("yes", "no")] == ["yes", "no"]
    assert [vcd("a dog", label) for label in ("yes", "no")] == ["no", "yes"]  # wrong either way


def test_vlmevalkit_treats_marks_as_vqa_does():
    assert vlmevalkit("no/dog") == "no"  # between letters: a blank
    assert vlmevalkit("no/dog 1,000") == "unknown"  # a number with a comma lets all marks vanish
    assert vlmevalkit("No-one, no") == "no"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", ["", " \n\t", "\0", "." * 99, ",", "ß", "İ", "x" * 100_000, "{}", "n't", "\u202eon"])
@pytest.mark.parametrize("label", ["yes", "no"])
def test_garbage_never_raises(policy, text, label):
    assert POLICIES[policy](text, label) in ("yes", "no", "unknown")
