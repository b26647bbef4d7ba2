"""Scores of CLIP models, vision-language models and people on a benchmark.

Read `reading.py` first (from what was said to an option), then `scores.py` (from options to numbers with intervals).
`answers.py` records what was said, `foreign_answers.py` takes it from files of other harnesses, and `readers.py` gives
the numbers that they would print for it, each by its `as_*.py`.
"""
