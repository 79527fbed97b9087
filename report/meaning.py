"""What each metric answers, in one sentence that needs no other page."""

HEADLINE = "explained_loss"
"""The metric that is shown first: it needs no list of concepts and no best unit."""

MEANING = {
    "explained_loss": "How much of what the units do for the loss short rules do as well: all units "
    "are replaced at once by what their rules predict. 1: nothing is lost, 0: as bad as ablating them.",
    "explained_loss_nats": "The loss in nats per token behind explained loss: whole model, units at "
    "their mean, units replaced by their rules.",
    "bits_per_byte": "How well held-out text is predicted: bits paid for each byte of it.",
    "bits_per_byte_given_up": "The price of interpretability: bits per byte more than the matched "
    "dense run pays for the same files.",
    "bits_per_byte_overlap": "Bits per byte where every token has at least half a context before it.",
    "bits_saved_over_5gram": "Whether more was learned than counting: bits per byte below a 5-gram.",
    "bytes_per_token": "How much text a token is. It belongs to the tokenizer, not to the model.",
    "mean_active_units": "How many units speak at a token, on average.",
    "max_active_units": "The most units that speak at one token.",
    "living_share": "Share of the units that are ever active on this text.",
    "mean_kurtosis": "How far the units' activations are from Gaussian: higher is peakier.",
    "rule": "How well a rule of so many bits, found on other files, predicts a unit's activation.",
    "monosemantic_share": "Share of living units whose rule predicts their activation and the sign of "
    "their effect.",
    "description_length": "Bits a token needed to write down which units are active, and how much.",
    "output_purity": "Whether a unit writes for few next tokens: share of its effect on ten of them.",
    "intruder": "Whether a unit's contexts belong together: an odd one out is found, without an LLM.",
    "token_entropy": "On how few kinds of token a unit fires, beside as many tokens at random.",
    "regret": "Bits per token above the best possible predictor of this generated text.",
    "latent_f1": "How well the best unit tells the true hidden state of the generated text.",
    "latent_auroc": "How well the best unit ranks tokens by the true hidden state.",
    "latent_mcc": "Correlation of units with true hidden states, matched one to one.",
    "belief_mcc": "Correlation of units with what an ideal observer believes of the hidden states.",
    "latent_interchange": "Whether few units hold a hidden state: swapping them changes the prediction "
    "as resetting the state would.",
    "seed_consistency": "Whether runs of other seeds have the same units, matched one to one.",
    "tasks": "Accuracy on small Python tasks: which of two next tokens is right.",
    "minimal_pairs": "How often correct code is more likely than the same code with one mistake.",
    "cross_entropy_by_class": "Bits per token by kind of token: names, keywords, strings, …",
    "identifier_recall": "Whether names that stand earlier in the file are recalled.",
    "induction": "Whether a repeated random sequence is predicted the second time.",
    "calibration": "Whether stated probabilities come true: distance between the two.",
    "sample_validity": "Share of the texts it writes that parse.",
    "concept_coverage": "How well the best single unit tells a label such as “inside a string”: F1, "
    "mean over labels.",
    "concept_gain": "What single units tell of labels beyond what the current token does.",
    "concept_coverage_normalised": "Coverage between what needs no model (0) and what a "
    "probe finds (1).",
    "concept_coverage_ambiguous": "Coverage on tokens that leave the label open.",
    "concept_reconstruction": "How much of a label its precise units tell together.",
    "concept_coverage_at": "Coverage where every unit is made to fire equally often.",
    "concept_coverage_of": "Coverage by so many units drawn at random.",
    "unit_label_f1": "What most units are like: F1 of each with the label that fits it best.",
    "k_sparse": "How well so many units together rank tokens by a label.",
    "k_star": "How many units a label needs to be told nearly as well as by all channels.",
    "absorption": "Whether units of a wide label fall silent where a narrower one has its own.",
    "feature_splitting": "Over how many units a label is spread.",
    "fms": "Whether one unit tells a label, and no other unit does.",
    "targeted_ablation": "Whether removing a label's units hurts where the label is at stake, and only "
    "there.",
    "steering": "Whether pushing a unit makes the model say what the unit stands for, fluently, and "
    "nothing else.",
    "interchange_accuracy": "Whether few units hold a task's answer: swapping them between two prompts "
    "swaps the answers.",
    "logit_share": "Share of the logits that units write directly: 1 less how long the logits without "
    "their part are, over how long the whole ones are.",
    "cross_entropy_through_units": "Loss where only what flows through units is kept.",
    "circuit": "The smallest part of the model that does a task alone.",
}
"""By metric, or by the beginning of its name up to an underscore."""
NORMALISED = "_normalised"
"""How names end of scores between floor and ceiling."""


def meaning(metric: str) -> str | None:
    """The sentence for a metric, its variants (`rule:f1_64bits`) included; None for one unknown."""
    name = metric.partition(":")[0]
    share = name.removesuffix(NORMALISED)
    if share != name and name not in MEANING:
        whole = meaning(share)
        return (
            whole and f"{whole} Given between what needs no model (0) and what a probe finds (1)."
        )
    while name and name not in MEANING:
        name = name.rpartition("_")[0]
    return MEANING.get(name)
