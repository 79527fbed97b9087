"""Words: what they reach, in any order, how they are refused, and back from a configuration."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.organ import Lip, Organ, Pipes, Play, Reed, Wind, organs, outcome, scalars

from pellucid.errors import ConfigError, UserError
from pellucid.settings.fields import (
    from_json,
    to_json,
)
from pellucid.settings.words import changes, describe, fillings, override


def refused(words: str | list[str], *fragments: str) -> None:
    words = words.split() if isinstance(words, str) else words
    with pytest.raises(ConfigError) as caught:
        override(Organ(), words)
    assert isinstance(caught.value, UserError)
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_reach_every_kind_of_field():
    organ = override(
        Organ(),
        [
            "play.stops=flute,oboe",
            "play.span=4,1e-3",
            "play.loud=true",
            "n=1e6",
            "voice=lip",
            "voice.k=3",
            "voice.width=none",
            "wind=lip",
            "wind.k=2",
            "wind.leak=0.25",
            "seed=10_000",
            "play.title=none",
        ],
    )
    assert organ.play == Play(stops=("flute", "oboe"), span=(4, 0.001), loud=True)
    assert organ.pipes == Pipes(n=1_000_000, voice=Lip.Config(k=3))
    assert organ.wind == Wind(source=Lip.Config(k=2), leak=0.25) and organ.seed == 10_000


def test_a_tag_that_is_there_already_keeps_its_values():
    organ = override(Organ(), ["voice.bend=0.75", "voice=reed"])
    assert organ.pipes.voice == Reed.Config(bend=0.75)


@given(
    st.permutations(["voice=lip", "voice.k=9", "voice.width=12", "pipes.voice.rule=soft", "n=5"])
)
def test_the_order_of_words_does_not_matter(words):
    organ = override(Organ(), words)
    assert organ.pipes == Pipes(n=5, voice=Lip.Config(k=9, width=12, rule="soft"))


@given(
    st.permutations(
        ["voice=lip", "voice.k=9", "voice@1,3.k=7", "voice@3.rule=soft", "voice@4=reed"]
    )
)
def test_layers_start_from_the_filling_of_all_layers(words):
    organ = override(Organ(), words)
    assert organ.pipes.per_layer == {
        "voice@1": Lip.Config(k=7),
        "voice@3": Lip.Config(k=7, rule="soft"),
        "voice@4": Reed.Config(),
    }
    assert override(organ, ["voice@1,3,4="]).pipes.per_layer == {}


@pytest.mark.parametrize(
    "words, fragments",
    [
        ("play.pcae=2", ["play.pcae is not a field; did you mean play.pace?"]),
        ("pace=2", ["pace is not a field; did you mean play.pace?"]),
        ("pcae=2", ["pcae is not a field; did you mean play.pace?"]),
        ("qqqq=2", ["qqqq is not a field; expected one of seed, pipes, wind, play"]),
        ("voice.k=2", ["voice.k is not a field of reed, it is one of lip: add voice=lip"]),
        ("voice=lup", ["voice = 'lup' is not accepted; did you mean lip?"]),
        ("play.pace=nan", ["play.pace = nan is not accepted; expected a number, above 0"]),
        ("play.pace=1e999", ["play.pace = inf"]),
        ("play.pace=", ["play.pace = ''"]),
        (
            "n=0",
            ["pipes.n = 0 is not accepted; expected an integer, at least 1 and at most 10000000"],
        ),
        ("n=2.5", ["pipes.n = 2.5"]),
        ("play.loud=yes", ["play.loud = 'yes' is not accepted; expected true or false"]),
        ("voice=lip voice.width=x", ["pipes.voice.width = 'x'", "an integer, at least 1 or none"]),
        ("voice=lip voice.k=9 voice.width=3", ["pipes.voice.k = 9 is larger than the width 3"]),
        ("voice=lip voice@2.k=0", ["pipes.voice@2.k = 0"]),
        ("voice@x=lip", ["voice@x is not a field"]),
        ("n@1=lip", ["n@1 is not a field"]),
        ("play=3", ["play = '3' is not accepted; play is a group"]),
        ("pipes.per_layer=3", ["pipes.per_layer"]),
        ("play.pace.x=3", ["play.pace.x is not a field"]),
        ("hello", ["'hello' is not of the form path=value"]),
        ("--seed=3", ["'--seed=3' is not of the form path=value"]),
        ("=3", ["is not of the form path=value"]),
        ("..=3", [".. is not a field"]),
    ],
)
def test_a_wrong_word_is_refused_by_path(words, fragments):
    refused(words, *fragments)


def test_every_field_has_a_row_and_a_short_path_that_means_the_same():
    organ = override(Organ(), ["voice@1=lip"])
    rows = {row.path: row for row in describe(organ)}
    assert rows["pipes.voice.bend"].short == "voice.bend"
    assert rows["wind.source"].short == "wind" and rows["wind.source.k"].short == "wind.k"
    assert rows["play.n"].short == "play.n" and rows["pipes.n"].short == "n"
    assert rows["pipes.voice@1.k"].value == "4" and rows["pipes.voice@1"].value == "lip"
    assert rows["play.loud"].operational and not rows["seed"].operational
    assert rows["play.pace"].doc == "Beats in a second."
    for row in rows.values():
        assert override(organ, [f"{row.short}={row.value}"]) == organ, row


def test_fillings_lists_the_fields_of_each_filling():
    found = {row.path: by_tag for row, by_tag in fillings(Organ())}
    assert list(found) == ["pipes.voice", "wind.source"]
    assert [row.short for row in found["pipes.voice"]["lip"]] == [
        "voice.k",
        "voice.width",
        "voice.rule",
    ]
    assert [row.value for row in found["pipes.voice"]["reed"]] == ["0.5"]


@given(organs, organs)
def test_changes_is_the_inverse_of_override(a, b):
    assert override(a, [f"{path}={text}" for path, text in changes(a, b)]) == b


@settings(max_examples=300)
@given(
    st.sampled_from([row.short for row in describe(Organ())]),
    st.text(max_size=10) | scalars.map(str),
)
def test_any_text_is_accepted_or_refused_by_path(path, text):
    organ, said = outcome(lambda: override(Organ(), [f"{path}={text}"]))
    if organ is None:
        assert path.split(".")[-1] in said
        assert "\n" not in said
    else:
        assert from_json(Organ, to_json(organ)) == organ


def test_a_recipe_multiplies_what_was_there_and_words_still_decide(monkeypatch):
    monkeypatch.setattr(Lip.Config, "recipe", ("play.pace=2x", "play.stops=oboe"))
    slow = override(Organ(), ["play.pace=3"])
    found = override(slow, ["voice=lip"])
    assert (found.play.pace, found.play.stops) == (6.0, ("oboe",))
    assert override(found, ["voice=lip"]) == found
    assert override(slow, ["play.pace=5", "voice=lip"]).play.pace == 5.0
    both = override(slow, ["voice=lip", "wind=lip"])
    assert both.play.pace == 6.0  # of what was there, whoever else asks for it


@given(st.text(max_size=20))
def test_any_word_at_all_is_accepted_or_refused(word):
    organ, said = outcome(lambda: override(Organ(), [word]))
    assert organ is not None or said
