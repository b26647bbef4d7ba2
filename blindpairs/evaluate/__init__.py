"""Scores of CLIP models, vision-language models and people on a benchmark.

Read `reading.py` first (from what was said to an option), then `scores.py` (from options to numbers with intervals),
then `comparison.py` (whether one model is better than another). `answers.py` records what was said,
`foreign_answers.py` takes it from files of other harnesses, and `readers.py` gives the numbers that they would print
for it, each by its `as_*.py`.

`session.py` goes from specs to scores: `asking.py` has the words, `answering.py` asks with `pictures.py` and
`baselines.py`, `judging.py` has a model judge, `results.py` knows the folders, `summary.py` counts, and `overview.py`
shows.
"""
