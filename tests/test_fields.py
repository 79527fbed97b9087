"""Configurations: what is accepted, how it is refused, and what goes out as JSON and comes back."""

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pellucid.errors import ConfigError, UserError
from pellucid.fields import (
    Config,
    Configurable,
    declared,
    differences,
    docs,
    from_json,
    setting,
    slot,
    to_json,
)
from pellucid.words import changes, describe, fillings, override


class Reed(Configurable):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        bend: float = setting(0.5, low=0, high=1)
        """How far it bends."""

    def __init__(self, config: Any, size: int) -> None:
        self.config, self.size = config, size


class Lip(Configurable):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        k: int = setting(4, low=1)
        """How many
        are pressed."""
        width: int | None = setting(None, low=1)
        rule: Literal["hard", "soft"] = setting("hard")

        def check(self) -> None:
            if self.width is not None and self.k > self.width:
                raise ConfigError(f"k = {self.k} is larger than the width {self.width}")

    def __init__(self, config: Any) -> None:
        self.config = config


VOICES = {"reed": Reed, "lip": Lip}


@dataclass(frozen=True, kw_only=True)
class Pipes(Config):
    voice: Config = slot(VOICES, "reed")
    """What speaks."""
    n: int = setting(2, low=1, high=10_000_000)
    per_layer: dict[str, Config] = setting({})
    """Voices of single pipes."""


@dataclass(frozen=True, kw_only=True)
class Wind(Config):
    forward = "source"
    source: Config = slot(VOICES, "lip")
    leak: float = setting(0.1, low=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Play(Config):
    pace: float = setting(1.0, above=0)
    """Beats in a second."""
    loud: bool = setting(False, operational=True)
    stops: tuple[str, ...] = setting(())
    span: tuple[int, float] = setting((1, 2.0))
    title: str | None = setting(None)
    n: int = setting(3)


@dataclass(frozen=True, kw_only=True)
class Organ(Config):
    forward = "pipes"
    seed: int = setting(0)
    pipes: Pipes = setting(Pipes())
    wind: Wind = setting(Wind())
    play: Play = setting(Play())


def refused(words: str | list[str], *fragments: str) -> None:
    words = words.split() if isinstance(words, str) else words
    with pytest.raises(ConfigError) as caught:
        override(Organ(), words)
    assert isinstance(caught.value, UserError)
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_config_builds_its_class():
    built = Reed.Config(bend=0.25).build(7)
    assert isinstance(built, Reed) and (built.config.bend, built.size) == (0.25, 7)


def test_numbers_become_canonical():
    play = Play(pace=2, stops=["a"], span=(3.0, 4))
    assert type(play.pace) is float and play.stops == ("a",) and play.span == (3, 4.0)
    assert type(play.span[0]) is int and type(play.span[1]) is float


@pytest.mark.parametrize(
    "cls, field, value",
    [
        (Play, "pace", math.nan),
        (Play, "pace", math.inf),
        (Play, "pace", 0.0),
        (Play, "pace", True),
        (Play, "pace", 10**400),
        (Play, "loud", 1),
        (Play, "loud", "true"),
        (Play, "stops", "abc"),
        (Play, "stops", (1,)),
        (Play, "span", (1, 2.0, 3)),
        (Play, "span", (1.5, 2.0)),
        (Play, "title", 3),
        (Play, "n", True),
        (Play, "n", 2**63),
        (Play, "n", "3"),
        (Wind, "leak", 1),
        (Pipes, "n", 0),
        (Pipes, "voice", "reed"),
        (Pipes, "voice", Play()),
        (Pipes, "per_layer", {"voice": Reed.Config()}),
        (Pipes, "per_layer", {"voice@01": Reed.Config()}),
        (Pipes, "per_layer", {"n@1": Reed.Config()}),
        (Pipes, "per_layer", {"voice@1": Play()}),
        (Pipes, "per_layer", {3: Reed.Config()}),
        (Organ, "play", Wind()),
        (Lip.Config, "rule", "Hard"),
    ],
)
def test_a_wrong_value_is_refused_from_python_by_name(cls, field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .* is not accepted; expected "):
        cls(**{field: value})


def test_a_number_too_large_to_print_is_refused():
    with pytest.raises(ConfigError, match="n = int too large to print is not accepted"):
        Play(n=10**5000)


def test_a_class_that_forgot_its_decorator_is_found_out():
    class Bare(Config):
        x: int = 3

    with pytest.raises(TypeError, match="lacks @dataclass"):
        Bare()


def test_docs_are_the_strings_beneath_the_fields():
    assert docs(Lip.Config) == {"k": "How many are pressed.", "width": "", "rule": ""}
    assert docs(Play)["pace"] == "Beats in a second."


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


def test_json_names_the_path_of_what_is_wrong():
    def wrong(tree: Any, fragment: str) -> None:
        with pytest.raises(ConfigError) as caught:
            from_json(Organ, tree)
        assert fragment in str(caught.value)

    wrong({"play": {"pcae": 1}}, "play.pcae is not a field; did you mean pace?")
    wrong({"play": {"pace": "1"}}, "play.pace = '1' is not accepted")
    wrong({"play": []}, "play = [] is not accepted; expected an object")
    wrong([], "Organ = [] is not accepted")
    wrong(
        {"pipes": {"voice": {"type": "lup"}}},
        "pipes.voice = 'lup' is not accepted; did you mean lip?",
    )
    wrong({"pipes": {"voice": {"bend": 1}}}, "pipes.voice = {'bend': 1} is not accepted")
    wrong({"pipes": {"voice": {"type": "lip", "k": 0}}}, "pipes.voice.k = 0")
    wrong({"pipes": {"voice": {"type": ["lip"]}}}, "pipes.voice = ['lip']")
    wrong({"pipes": {"per_layer": {"x@1": {"type": "lip"}}}}, "pipes.per_layer = 'x@1'")
    wrong({"pipes": {"per_layer": {"voice@1": {"type": "lip", "k": "a"}}}}, "pipes.voice@1.k = 'a'")
    wrong({"pipes": {"per_layer": 3}}, "pipes.per_layer = 3")
    wrong({3: 4}, "3 is not a field")


def test_differences_show_paths_and_skip_what_may_change():
    a = override(Organ(), ["play.loud=true", "seed=4", "voice@1=lip"])
    b = override(Organ(), ["voice=lip"])
    identity = [("seed", 4, 0), ("pipes.voice", "reed", "lip"), ("pipes.voice@1", "lip", None)]
    assert differences(a, b, operational=False) == identity
    assert ("play.loud", True, False) in differences(a, b, operational=True)
    assert differences(a, a, operational=True) == []


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


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, -(10**400), "", "none", "nan", "1e999", math.inf, -0.0, 2**63]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
voices = st.one_of(
    st.builds(Reed.Config, bend=st.floats(0, 1)),
    st.builds(Lip.Config, k=st.integers(1, 9), width=st.none() | st.integers(9, 99)),
)
printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
organs = st.builds(
    Organ,
    seed=st.integers(-(2**63) + 1, 2**63 - 1),
    pipes=st.builds(
        Pipes,
        voice=voices,
        n=st.integers(1, 99),
        per_layer=st.dictionaries(st.sampled_from(["voice@0", "voice@2", "voice@11"]), voices),
    ),
    wind=st.builds(Wind, source=voices, leak=st.floats(0, 1, exclude_max=True)),
    play=st.builds(
        Play,
        pace=st.floats(0, exclude_min=True, allow_infinity=False),
        loud=st.booleans(),
        stops=st.lists(printable, max_size=3),
        span=st.tuples(st.integers(-99, 99), st.floats(allow_nan=False, allow_infinity=False)),
        title=st.none() | printable.filter(lambda text: text != "none"),
    ),
)


@given(organs)
def test_json_round_trip_is_the_identity(organ):
    again = from_json(Organ, json.loads(json.dumps(to_json(organ), allow_nan=False)))
    assert again == organ and to_json(again) == to_json(organ)


@given(organs, organs)
def test_changes_is_the_inverse_of_override(a, b):
    assert override(a, [f"{path}={text}" for path, text in changes(a, b)]) == b


def every_field(cls: type[Config]) -> list[str]:
    return [row.path for row in describe(cls())]


@settings(max_examples=300)
@given(st.sampled_from(every_field(Organ)), values)
@example("play.stops", [["a"]])
def test_any_json_value_is_accepted_or_refused_by_path(path, value):
    tree = to_json(Organ())
    *groups, last = path.split(".")
    node = tree
    for name in groups:
        node = node[name]
    node[last] = value
    try:
        organ = from_json(Organ, tree)
    except ConfigError as error:
        assert str(error).startswith(path) and len(str(error)) < 400
    else:
        assert from_json(Organ, json.loads(json.dumps(to_json(organ), allow_nan=False))) == organ


@settings(max_examples=300)
@given(
    st.sampled_from([row.short for row in describe(Organ())]),
    st.text(max_size=10) | scalars.map(str),
)
def test_any_text_is_accepted_or_refused_by_path(path, text):
    try:
        organ = override(Organ(), [f"{path}={text}"])
    except ConfigError as error:
        assert path.split(".")[-1] in str(error) and "\n" not in str(error)
    else:
        assert from_json(Organ, to_json(organ)) == organ


@given(st.text(max_size=20))
def test_any_word_at_all_is_accepted_or_refused(word):
    try:
        override(Organ(), [word])
    except ConfigError as error:
        assert str(error)


def test_declared_says_what_a_field_is():
    fields = declared(Organ)
    assert fields["pipes"].is_group and not fields["seed"].is_group
    assert declared(Pipes)["per_layer"].is_layered and declared(Pipes)["voice"].table is VOICES
