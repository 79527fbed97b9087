"""Configurations: what is accepted, how it is refused, and what goes out as JSON and comes back."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.organ import (
    VOICES,
    Lip,
    Organ,
    Pipes,
    Play,
    Reed,
    Wind,
    every_field,
    organs,
    outcome,
    values,
)

from pellucid.errors import ConfigError
from pellucid.settings.fields import (
    Config,
    declared,
    differences,
    docs,
    from_json,
    to_json,
)
from pellucid.settings.words import override


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


@given(organs)
def test_json_round_trip_is_the_identity(organ):
    again = from_json(Organ, json.loads(json.dumps(to_json(organ), allow_nan=False)))
    assert again == organ and to_json(again) == to_json(organ)


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
    organ, said = outcome(lambda: from_json(Organ, tree))
    if organ is None:
        assert said.startswith(path)
        assert len(said) < 400
    else:
        assert from_json(Organ, json.loads(json.dumps(to_json(organ), allow_nan=False))) == organ


def test_declared_says_what_a_field_is():
    fields = declared(Organ)
    assert fields["pipes"].is_group and not fields["seed"].is_group
    assert declared(Pipes)["per_layer"].is_layered and declared(Pipes)["voice"].table is VOICES
