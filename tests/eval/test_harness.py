"""What lm-evaluation-harness is answered, with and without the harness itself."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer, constant, silent
from support.planted import Planted

from pellucid.errors import UserError
from pellucid.eval import harness
from pellucid.eval.harness import Answers, adapter, windows

TOKENIZER = code_tokenizer(257)
HARNESS = importlib.util.find_spec("lm_eval") is not None


def successor(vocab_size=257):
    """After each byte, the next one of the alphabet; 10 nats above all others."""

    def predict(tokens):
        logits = torch.zeros(*tokens.shape, vocab_size)
        for token in range(vocab_size):
            here = tokens == token
            following = TOKENIZER.encode(chr(ord(TOKENIZER.decode([token])[:1] or "`") % 127 + 1))
            logits[here, following[0]] = 10.0
        return logits

    return Planted([silent], vocab_size=vocab_size, predict=predict)


@pytest.fixture
def answers():
    return Answers(successor(), TOKENIZER, context=12)


def asked(*args):
    return SimpleNamespace(args=args)


def log_p(right):
    """Of one token, by the model above."""
    return float(torch.tensor([10.0, *[0.0] * 256]).log_softmax(0)[0 if right else 1])


def test_a_continuation_is_scored_after_its_context(answers):
    pairs = [("abc", "def"), ("abc", "dfe"), ("", "ab")]
    encode = TOKENIZER.encode
    requests = [(None, encode(a) or [TOKENIZER.eot], encode(b)) for a, b in pairs]
    found = answers._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [True, False, True]
    right, wrong = log_p(True), log_p(False)
    # After d comes f where e was due, and after f comes e.
    expected = [3 * right, right + 2 * wrong, 2 * right]
    assert [value for value, _ in found] == pytest.approx(expected, rel=1e-4)


def test_a_long_context_loses_its_beginning_and_a_long_continuation_is_refused(answers):
    encode = TOKENIZER.encode
    long = answers._loglikelihood_tokens([(None, encode("x" * 50 + "abc"), encode("de"))])
    assert long == [(pytest.approx(2 * log_p(True), rel=1e-4), True)]
    with pytest.raises(UserError, match="a continuation has 13 tokens; at most the context, 12"):
        answers._loglikelihood_tokens([(None, encode("a"), encode("b" * 13))])


@pytest.mark.parametrize("length", [1, 5, 12, 13, 24, 25, 40])
def test_windows_score_every_token_once_as_late_as_possible(length):
    tokens = list(range(length + 1))
    found = list(windows(tokens, 12))
    scored = [token for row, fresh in found for token in row[len(row) - fresh :]]
    assert scored == tokens[1:]
    assert all(len(row) <= 13 for row, _ in found)
    # The last row of a long text is full: earlier tokens are its context.
    assert len(found[-1][0]) == min(13, length + 1)


def test_a_whole_text_is_the_sum_of_its_tokens(answers):
    text = "abcdefghijklmnopqrstuvwxyzab"
    [found] = answers.loglikelihood_rolling([asked(text)])
    # Every step but the one from z back to a is the expected one.
    assert found == pytest.approx(27 * log_p(True) + log_p(False), rel=1e-4)
    assert answers.loglikelihood_rolling([asked("")]) == [0.0]


def test_rolling_uses_all_the_context_there_is():
    """A constant model gives the same wherever rows are cut."""
    logits = torch.linspace(0, 3, 257)
    text = "the same wherever it is cut" * 3
    expected = float(logits.log_softmax(0)[TOKENIZER.encode(text)].sum())
    for context in (5, 12, 200):
        model = Answers(constant(logits), TOKENIZER, context=context)
        assert model.loglikelihood_rolling([asked(text)]) == [pytest.approx(expected, rel=1e-5)]


def test_generation_ends_at_a_stop(answers, monkeypatch):
    def follow(model, tokens, n_new, *, temperature, seed=0):
        assert temperature == 0
        for _ in range(n_new):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
        return tokens

    monkeypatch.setattr(harness, "generate", follow)
    settings = {"until": ["g", "zz"], "max_gen_toks": 8, "temperature": 0.9}
    assert answers.generate_until([asked("abc", settings)]) == ["def"]
    assert answers.generate_until([asked("abc", {"max_gen_toks": 2})]) == ["de"]
    assert answers.generate_until([asked("abc", {"until": "e"})]) == ["d"]


def test_without_the_extra_there_is_a_sentence(make_run, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(harness.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"pip install 'pellucid\[harness\]'"):
        adapter(make_run("topk"))


@pytest.mark.slow
@pytest.mark.skipif(not HARNESS, reason="the extra `harness` is not installed")
def test_a_planted_task_is_solved_by_a_model_that_knows_it(tmp_path):
    """Under the harness itself: 100 % on a task of our own, and the harness's bits per byte."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    rows = [{"text": chr(97 + i), "choices": [chr(98 + i), "!"], "label": 0} for i in range(20)]
    rows += [{"text": chr(97 + i), "choices": ["?", chr(98 + i)], "label": 1} for i in range(20)]
    data = tmp_path / "planted.json"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
    choice = source | {
        "task": "alphabet",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{text}}",
        "target_delimiter": "",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}],
    }
    model = type("Run", (), {})()
    model.model, model.tokenizer = successor(), TOKENIZER
    model.config = SimpleNamespace(model=SimpleNamespace(context=12))
    # Without the harness's own tasks, whose thousands of files would be read first.
    about = {"task_manager": TaskManager(include_defaults=False), "bootstrap_iters": 0}
    found = lm_eval.simple_evaluate(model=adapter(model), tasks=[choice], **about)
    assert found["results"]["alphabet"]["acc,none"] == 1.0
    even = SimpleNamespace(
        model=constant(torch.zeros(257)), tokenizer=TOKENIZER, config=model.config
    )
    rolling = source | {
        "task": "bits",
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    found = lm_eval.simple_evaluate(model=adapter(even), tasks=[rolling], **about)
    assert found["results"]["bits"]["bits_per_byte,none"] == pytest.approx(np.log2(257), rel=1e-5)
