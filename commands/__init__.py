"""The commands beside `train`, each told its own words; `cli.py` says which there are."""
