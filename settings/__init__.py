"""Configurations: fields, their kinds, the words that set them, and the pages that show them."""
