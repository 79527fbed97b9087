"""What the pages say, without a browser."""

import json
import re
from types import SimpleNamespace

import pytest

from pellucid.errors import RunError
from pellucid.eval.score import Score
from pellucid.eval.suite import METRICS
from pellucid.report import (
    comparison,
    concepts,
    layers,
    page,
    reading,
    scores,
    summary,
    wording,
    write_report,
)
from pellucid.report.curves import DRAWN, curves
from pellucid.report.meaning import MEANING, meaning

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"


def test_the_page_holds_no_planted_markup_and_asks_for_nothing(sample_run, sample_circuits):
    sample_circuits.write_circuits(sample_run.path, **sample_circuits.sample_circuits())
    html = write_report(sample_run).read_text()
    assert HOSTILE not in html
    assert "<img" not in html
    assert re.search(r"""(src|href)=["']?(https?:)?//""", html) is None
    assert html.count("</script>") == 5


def test_the_same_run_gives_the_same_page(sample_run):
    first = write_report(sample_run).read_bytes()
    assert write_report(sample_run).read_bytes() == first
    assert [p.name for p in sample_run.path.iterdir() if p.name.startswith(".")] == []


def test_safe_json_reads_back_and_cannot_end_its_element():
    value = {"text": HOSTILE + "\u2028&<!--", "n": [0.0, 1.5, float("nan")], "lone": "\ud800"}
    text = str(page.safe_json(value))
    assert not set("<>&\u2028") & set(text)
    read = json.loads(text)
    assert read["text"] == value["text"]
    assert read["n"] == [0, 1.5, None]
    assert read["lone"] == "?"


def test_policy_allows_only_the_listed_scripts():
    words = page.policy(scripts=["a()"], styles=["b{}"]).split("; ")
    assert words[0] == "default-src 'none'"
    # Computed with: printf 'a()' | openssl dgst -sha256 -binary | base64
    assert words[1] == "script-src 'sha256-qVpDBgj7bpq5hMAcGp3AOc79J3Y1Z4HvySTwKrWDoy4='"


def test_metrics_tolerate_a_half_last_line_and_keep_the_later_of_two_rows(tmp_path):
    file = tmp_path / "metrics.jsonl"
    rows = [{"kind": "train", "step": s, "loss": loss} for s, loss in ((1, 5), (2, 4), (2, 3))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tr')
    assert [row["loss"] for row in reading.read_metrics(file)] == [5, 3]
    file.write_text('{"kind": \n{"kind": "train", "step": 1}\n')
    with pytest.raises(RunError, match="line 1,"):
        reading.read_metrics(file)
    assert reading.read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.json", "{", "scores.json is not readable JSON"),
        ("units.json", '{"format": 9}', "units.json: format is 9; this version reads 1"),
        ("config.json", "[]", "config.json holds a list"),
        ("config.json", None, "has no config.json"),
    ],
)
def test_a_damaged_file_is_named_and_the_old_report_stays(sample_run, name, text, message):
    before = write_report(sample_run).read_bytes()
    (sample_run.path / name).unlink() if text is None else (sample_run.path / name).write_text(text)
    with pytest.raises(RunError, match=message):
        write_report(sample_run)
    assert (sample_run.path / "report.html").read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="no such directory"):
        write_report(SimpleNamespace(path=tmp_path / "gone"))


def test_thinned_curves_keep_both_ends():
    rows = [{"kind": "train", "step": s, "tokens": 8 * s, "lr": s} for s in range(1, 30_001)]
    (panel,) = curves(rows)["panels"]
    (series,) = panel["series"]
    assert series["logged"] == 30_000
    assert len(series["step"]) <= DRAWN
    assert series["step"][:3] == [1, 2, 3]
    assert series["step"][-1] == series["value"][-1] == 30_000
    assert series["tokens"][-1] == 240_000


def test_a_control_that_does_as_well_is_marked():
    score = {"metric": "bits_per_byte", "value": 1.4, "low": 1.38, "high": 1.42}
    controls = {"near": 1.41, "better": 1.1, "worse": 1.43, "ceiling": 1.0, "none": "too dear"}
    (row,) = scores.score_rows({"scores": [score | {"controls": controls}]})
    assert (row["beaten"], row["close"]) == (["better"], ["near"])
    assert row["missing"] == [{"names": ["none"], "reason": "too dear"}]
    turned = score | {"metric": "explained_loss", "controls": controls}
    assert scores.score_rows({"scores": [turned]})[0]["beaten"] == ["near", "worse"]
    assert scores.score_rows({"scores": [turned]})[0]["close"] == []
    described = score | {"metric": "living_share", "controls": controls}
    assert scores.score_rows({"scores": [described]})[0]["beaten"] == []


def test_the_variants_of_a_metric_stand_behind_its_first():
    names = ["rule:r2", "rule:r2", "rule:f1", "loss", "rule:gain"]
    rows = [{"score": {"metric": name, "site": str(i)}} for i, name in enumerate(names)]
    rule, loss = scores.families(rows)
    assert (rule["name"], rule["shown"], rule["more"]) == ("rule", rows[:2], [rows[2], rows[4]])
    assert (loss["shown"], loss["more"]) == ([rows[3]], [])


def test_the_headline_stands_first_and_says_what_it_answers():
    names = ["rule:r2", "explained_loss:64bits", "regret"]
    rows = [{"score": {"metric": name, "site": None}} for name in names]
    found = scores.families(rows)
    assert [family["name"] for family in found] == ["explained_loss", "rule", "regret"]
    assert [family["headline"] for family in found] == [True, False, False]
    assert "all units are replaced at once" in found[0]["about"]


def test_every_metric_says_what_it_answers():
    for name in METRICS:
        assert meaning(name), name
    assert meaning("k_sparse_auroc_5") == meaning("k_sparse_auprc_1") == MEANING["k_sparse"]
    assert meaning("explained_loss_nats_64bits") == MEANING["explained_loss_nats"]
    assert meaning("concept_coverage_of_64_units") == MEANING["concept_coverage_of"]
    assert meaning("rule:f1_64bits_living") == MEANING["rule"]
    share = meaning("fms_5_normalised")
    assert share.startswith(MEANING["fms"]) and share.endswith("and what a probe finds (1).")
    assert meaning("tasks_quick:assignment") == MEANING["tasks"]
    assert meaning("a_user's_own") is None


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (
            {"value": 0.125, "low": 0.1, "high": 0.15},
            "0.125 bits per byte (0.100 to 0.150) more than",
        ),
        ({"value": -0.125}, "0.125 bits per byte less than the matched dense run"),
        ({"value": -0.125, "low": -0.2, "high": -0.1}, "0.125 bits per byte (0.100 to 0.200) less"),
        (
            {"value": 0.125, "flags": ["dense_neurons: not matched in size: 9 parameters"]},
            "more than the dense run pays for the same files; the two are not matched in size.",
        ),
        ({"value": None, "flags": ["no value: no dense run"]}, "not known, no dense run."),
    ],
)
def test_the_price_of_interpretability_is_one_line(sample_run, price, words):
    file = sample_run.path / "scores.json"
    held = json.loads(file.read_text())
    held["scores"] = [s for s in held["scores"] if s["metric"] != scores.PRICE]
    assert scores.price(held) is None
    assert "Price of interpretability" not in _written(sample_run, held)
    asked = {"metric": scores.PRICE, "site": None, "unit_family": None, "split": "val"}
    asked |= {"n": 3, "tokens": 9, "seconds": 1}
    held["scores"].append(asked | price)
    assert words in " ".join(_written(sample_run, held).split())


def _written(sample_run, held):
    (sample_run.path / "scores.json").write_text(json.dumps(held))
    return write_report(sample_run).read_text()


def test_layers_are_drawn_to_the_scale_of_their_panel():
    controls = {"random_twin": 0.0, "pca": 1.0, "floor_best": 0.5, "ica": "not made"}
    one = {"metric": "concept_gain", "better": "higher", "unit_family": "mlp", "controls": controls}
    rows = scores.score_rows(
        {
            "scores": [
                one | {"site": "blocks.0.mlp", "value": 0.25, "low": 0.0, "high": 0.5},
                one | {"site": "blocks.3.mlp", "value": 0.75},
                one | {"site": "blocks.3.attn", "value": 0.5, "unit_family": "attn"},
                one | {"site": "blocks.4.mlp", "value": None},
            ]
        }
    )
    found = layers.profiles(scores.families(rows))
    (panel,) = found["panels"]
    assert (panel["low"], panel["high"]) == (0.0, 1.0)
    first, last = panel["points"]
    # 84 pixels from 0 at the bottom to 1 at the top, which is 8 from the edge.
    assert (first["x"], first["y"], first["top"], first["bottom"]) == (44, 71, 50, 92)
    assert (last["x"], last["y"], last["layer"]) == (260, 29, "3")
    assert "top" not in last
    drawn = {line["name"]: (line["color"], line["path"]) for line in panel["controls"]}
    assert drawn["random twin"] == (1, "M44.0 92.0L260.0 92.0")
    assert drawn["pca"] == (6, "M44.0 8.0L260.0 8.0")
    assert drawn["floor best"] == (0, "M44.0 50.0L260.0 50.0")
    assert [control["name"] for control in found["controls"]] == ["random twin", "pca"]
    assert found["others"]


def test_labels_are_ordered_by_their_best_unit_and_marked_by_their_floor():
    unit = {"site": "blocks.0.mlp", "unit": 7}
    labels = [
        {"label": "weak", "share": 0.1, "floor": 0.3, "best": [unit | {"f1": 0.3}], "worst": []},
        {"label": "none", "share": 0.1, "floor": 0.1, "best": [], "worst": []},
        {"label": "strong", "share": 0.1, "floor": 0.3, "best": [unit | {"f1": 0.8}], "worst": []},
    ]
    found = concepts.concept_rows({"concepts": {"reason": None, "labels": labels}})
    rows = [(row["label"], row["place"], row["as_good"], row["length"]) for row in found["rows"]]
    assert rows == [("strong", 2, False, 160), ("weak", 0, True, 60), ("none", 1, False, 0)]
    assert found["told"] == 1
    assert found["rows"][0]["unit"] == "blocks.0.mlp / 7"
    assert concepts.concept_rows({}) is None
    assert concepts.concept_rows(None) is None


def test_a_reason_that_most_rows_share_is_said_once():
    lacks = {"names": ["pca", "ica"], "reason": "not made"}
    rows = [{"missing": [dict(lacks)]}, {"missing": [dict(lacks)]}, {"missing": []}]
    rows[0]["missing"].append({"names": ["dense"], "reason": "not named"})
    assert scores.shared_missing(rows) == [{"names": ["ica", "pca"], "reason": "not made"}]
    assert [row["missing"] for row in rows] == [
        [{"names": ["dense"], "reason": "not named"}],
        [],
        [],
    ]
    assert scores.shared_missing(rows[:1]) == []
    # So is one that many rows share, though most do not lack the control.
    for n, said in (
        (scores.MANY, []),
        (scores.MANY + 1, [{"names": ["ica"], "reason": "no pass"}]),
    ):
        some = [{"missing": [{"names": ["ica"], "reason": "no pass"}]} for _ in range(n)]
        rows = [*some, *({"missing": []} for _ in range(20))]
        assert scores.shared_missing(rows) == said
        assert [bool(row["missing"]) for row in some] == [not said] * n


def test_a_score_without_a_value_is_listed_with_its_reason(sample_run):
    file = sample_run.path / "scores.json"
    held = json.loads(file.read_text())
    flags = ("no value: there is nothing to measure",)
    absent = Score(metric="regret", value=None, n=0, seconds=0.0, tokens=0, flags=flags)
    held["scores"].append(absent.to_json())
    file.write_text(json.dumps(held))
    html = write_report(sample_run).read_text()
    assert "1 score that was asked for and could not be measured" in html
    assert flags[0] in html


def test_bars_start_at_zero_and_carry_the_interval():
    controls = {"random_twin": -1.0, "dense_neurons": 3.0, "pca": "not made"}
    score = {
        "metric": "explained_loss",
        "value": 2.0,
        "low": 1.0,
        "high": 3.0,
        "controls": controls,
    }
    (row,) = scores.score_rows({"scores": [score]})
    own, twin, dense = row["bars"]["rows"]
    assert row["bars"]["zero"] == 50
    assert (own["x"], own["length"], own["from"], own["to"]) == (50, 100, 100, 200)
    assert (twin["x"], twin["length"], twin["as_good"]) == (0, 50, None)
    assert (dense["x"], dense["length"], dense["as_good"]) == (50, 150, "surely")
    assert scores.score_rows({"scores": [score | {"controls": {}}]})[0]["bars"] is None
    assert scores.score_rows({"scores": [score | {"value": None}]})[0]["bars"] is None


def test_the_page_marks_controls_once_and_counts_openings_of_the_test_split(sample_run):
    flags = ["a control scores as well: pca 3", "a seeded sample"]
    assert scores._flags({"flags": flags}, set()) == ["a seeded sample"]
    assert scores.opened({"test_openings": 2}) == "test split opened 2 times"
    assert scores.opened({}) is None
    held = json.loads((sample_run.path / "scores.json").read_text())
    (sample_run.path / "scores.json").write_text(json.dumps(held | {"test_openings": 1}))
    page = write_report(sample_run).read_text()
    assert "test split opened once" in page
    assert "No better than unigram cache: this score is no evidence for the run." in page


def test_a_leader_needs_its_own_data_group_and_a_clear_interval():
    heads = [{"group": group} for group in "AAB"]
    close = {0: (1.0, 0.9, 1.1), 1: (1.2, 1.05, 1.3), 2: (0.1, 0.1, 0.1)}
    clear = {0: (1.0, 0.9, 1.1), 1: (1.4, 1.3, 1.5), 2: (0.1, 0.1, 0.1)}
    for values, leaders in ((close, set()), (clear, {0})):
        found = {i: dict(zip(("value", "low", "high"), v, strict=True)) for i, v in values.items()}
        assert comparison._best(found, heads, "lower") == leaders
    assert comparison._best(found, heads, "higher") == {1}
    assert comparison._best(found, heads, None) == set()


def test_a_run_that_a_control_equals_leads_nothing():
    heads = [{"group": "A"}, {"group": "A"}]
    clear = {"metric": "concept_gain", "better": "higher", "value": 0.8, "low": 0.7, "high": 0.9}
    behind = clear | {"value": 0.2, "low": 0.1, "high": 0.3}
    for control, leaders in ((0.6, {0}), (0.75, set()), (0.9, set())):
        found = {0: clear | {"controls": {"random_twin": control}}, 1: behind}
        assert comparison._best(found, heads, "higher") == leaders


def test_a_comparison_shows_controls_and_marks_them(pages):
    html = " ".join(pages.compare.read_text().split())
    assert "no better than unigram cache" in html
    assert '<li class="as-good">unigram cache <b>0.008</b></li>' in html
    assert "<li>random twin <b>3.940</b></li>" in html


def test_comparison_needs_two_runs(sample_run, tmp_path):
    with pytest.raises(RunError, match="two runs or more; 1 given"):
        comparison.write_comparison([sample_run], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_comparison_replaces_nothing_but_a_comparison(sample_run, pages, tmp_path):
    def refused(out, message):
        with pytest.raises(RunError, match=message):
            comparison.write_comparison([sample_run, sample_run], out)

    refused(tmp_path, "is a folder: give the path of a file")
    refused(tmp_path / "no" / "out.html", r"/no is not a folder: give a path in a folder")
    assert not (tmp_path / "no").exists()
    for kept in (b"my notes", b"<!doctype html>mine", pages.report.read_bytes()):
        (tmp_path / "mine.html").write_bytes(kept)
        refused(tmp_path / "mine.html", r"mine\.html is not a page that compare wrote")
        assert (tmp_path / "mine.html").read_bytes() == kept
    refused(tmp_path / ("x" * 300), "cannot write the page .*: file name too long")
    for _ in range(2):
        out = comparison.write_comparison([sample_run, sample_run], tmp_path / "out.html")
    assert comparison._is_page(out, comparison.MARK)


def test_settings_are_flat_and_slots_are_named():
    config = {"seed": 1, "model": {"mlp": {"type": "topk", "k": 32, "signed": False}}}
    flat = {"seed": 1, "model.mlp": "topk", "model.mlp.k": 32, "model.mlp.signed": False}
    assert summary.flatten(config) == flat
    run = SimpleNamespace(config=config)
    assert summary.slots(run) == [{"slot": "mlp", "filling": "topk", "settings": [("k", "32")]}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.4401, "1.440"),
        (0.00042, "4.20e\u22124"),
        (-3, "\u22123"),
        (12345.678, "12,346"),
        (None, "–"),
        (True, "True"),
        ("topk", "topk"),
    ],
)
def test_numbers(value, shown):
    assert wording.number(value) == shown


def test_shares_and_counts():
    assert [wording.share(x) for x in (0.0123, 1.0, None)] == ["1.23 %", "100 %", "–"]
    assert [wording.count(x) for x in (12_300_000, 950, 2.3e9)] == ["12.3M", "950", "2.3G"]


def test_a_score_without_a_value_says_why(sample_run):
    file = sample_run.path / "scores.json"
    held = json.loads(file.read_text())
    why = "no value: refused: it chose the run"
    held["scores"][0] |= {"value": None, "low": None, "high": None, "flags": [why]}
    file.write_text(json.dumps(held))
    assert "refused: it chose the run</span>" in write_report(sample_run).read_text()
