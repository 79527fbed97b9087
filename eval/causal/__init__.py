"""What units do: ablation, steering, interchange, and the share of the logit that they carry."""
