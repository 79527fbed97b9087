"""The true latents as a table of labels, so that every metric that scores units by labels applies.

A label says that an automaton is in a state, such as `topic=3`; `stack_depth` gathers the contents
of the stack by how many brackets are open, and holds more often. Labels of the stack, the topic and
the counter may tune a metric; the others are for final results.
"""

import numpy as np

from pellucid.data.automata import Automaton
from pellucid.eval.labels import Label, LabelTable
from pellucid.eval.latents.known import Known

FINAL = ("quote", "variable")
"""Automata whose labels are of the family `test`; those of the others are `dev`."""


def table_of(known: Known) -> LabelTable:
    """What holds after each token of the stream, and before it: after the one before it.

    The first symbol of a document has no state before it, and an end of text none at all.
    """
    labels, after = [], []
    for latent, automaton in enumerate(known.process.automata):
        groups = _states(automaton)
        states = known.states[:, latent]
        after += [np.isin(states, members) for members in groups.values()]
        labels += [_label(name, automaton) for name in groups]
    after = np.stack(after, axis=1)
    before = np.concatenate([np.zeros_like(after[:1]), after[:-1]])
    here = known.is_symbol & np.append(False, known.is_symbol[:-1])
    valued = np.repeat(here[:, None], len(labels), axis=1)
    return LabelTable(tuple(labels), after, before & valued, np.zeros_like(after), valued)


def _states(automaton: Automaton) -> dict[str, list[int]]:
    """{label: the states it holds in}"""
    groups = {f"{automaton.name}={state}": [n] for n, state in enumerate(automaton.states)}
    if automaton.name == "stack":
        for number, content in enumerate(automaton.states):
            groups.setdefault(f"stack_depth={len(content)}", []).append(number)
    return groups


def _label(name: str, automaton: Automaton) -> Label:
    family = "test" if automaton.name in FINAL else "dev"
    meaning = f"the {automaton.name} of the generator, which the text up to here makes likely"
    return Label(name, "given", family, prefix=True, meaning=meaning)
