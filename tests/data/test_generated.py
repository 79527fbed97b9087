import ast
import itertools
import math
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from pellucid.data.documents import text_hash
from pellucid.data.generated import KINDS, Generated, bracket_depth


def documents(n, seed=0):
    return list(Generated.Config(n_documents=n, seed=seed).build().documents())


def test_the_text_does_not_change_between_versions():
    joined = "".join(document.text for document in documents(20))
    assert text_hash(joined)[:16] == GOLDEN_TEXT


GOLDEN_TEXT = "ea1f18534a50c833"


def test_seeds_differ_and_more_documents_only_add():
    assert documents(5, seed=1)[0].text != documents(5, seed=2)[0].text
    longer = [document.text for document in documents(9)]
    assert longer[:5] == [document.text for document in documents(5)]


def test_every_document_is_valid_python_of_its_kind():
    statements = {"function": ast.FunctionDef, "class": ast.ClassDef, "table": ast.Assign}
    for document in documents(60):
        kind = KINDS[int(document.side["kind"][0])]
        assert all(isinstance(node, statements[kind]) for node in ast.parse(document.text).body)


def test_bracket_depth_counts_open_brackets_after_each_byte():
    assert bracket_depth("é(a[1])b").tolist() == [0, 0, 1, 1, 2, 2, 1, 0, 0]
    for document in documents(20):
        depth = document.side["bracket_depth"]
        assert depth[-1] == 0 and depth.min() == 0 and depth.max() >= 2


def word_bits(texts, held_out, look_back):
    """Bits per word of a smoothed bigram, mixed with the words of the document so far or not."""
    follows, alone = defaultdict(Counter), Counter()
    for a, b in itertools.pairwise(w for text in texts for w in re.findall(r"\w+|\W", text)):
        follows[a][b] += 1
        alone[b] += 1
    total = alone.total()
    bits, n = 0.0, 0
    for text in held_out:
        seen, previous = Counter(), "\n"
        for word in re.findall(r"\w+|\W", text):
            base = (alone[word] + 1e-3) / (total + 1e3)
            after = follows[previous]
            p = (after[word] + 2 * base) / (after.total() + 2)
            if look_back and seen:
                p = 0.7 * p + 0.3 * seen[word] / seen.total()
            bits -= math.log2(p)
            seen[word] += word.isidentifier()
            previous, n = word, n + 1
    return bits / n


def test_looking_back_beats_a_bigram():
    texts = [document.text for document in documents(200)]
    plain, looking = (word_bits(texts[:160], texts[160:], back) for back in (False, True))
    assert looking < 0.8 * plain


@pytest.mark.slow
def test_a_tiny_transformer_beats_a_bigram_table(generated_data):
    """Two attention layers of width 64 after 300 steps, against the bigram table of train."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    vocabulary, context = generated_data.vocab_size, 96
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
    embed, place = nn.Embedding(vocabulary, 64), nn.Embedding(context, 64)
    stack, head = (
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Linear(64, vocabulary),
    )
    model = nn.ModuleList([embed, place, stack, head])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    mask = nn.Transformer.generate_square_subsequent_mask(context)

    def loss_of(batch):
        x = embed(batch.tokens[:, :-1]) + place.weight
        logits = head(stack(x, mask=mask, is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten())

    for step in range(300):
        optimizer.zero_grad()
        loss_of(generated_data.rows(0, step, batch=16, context=context)).backward()
        optimizer.step()
    with torch.no_grad():
        held_out = generated_data.rows(0, 0, batch=16, context=context, split="val")
        model_loss = float(loss_of(held_out))
    train = np.asarray(generated_data.split("train").tokens, dtype=np.int64)
    table = np.full((vocabulary, vocabulary), 0.02)
    np.add.at(table, (train[:-1], train[1:]), 1)
    log_p = np.log(table / table.sum(1, keepdims=True))
    tokens = held_out.tokens.numpy()
    assert model_loss < -log_p[tokens[:, :-1], tokens[:, 1:]].mean() - 0.2
