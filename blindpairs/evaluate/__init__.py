"""Scores of CLIP models, vision-language models and people on a benchmark.

Read `reading.py` first (from what was said to an option), then `scores.py` (from options to numbers with intervals),
then `comparison.py` (whether one model is better than another). `answers.py` records what was said,
`foreign_answers.py` takes it from files of other harnesses, and `readers.py` gives the numbers that they would print
for it, each by its `as_*.py`. `similarity.py` scores CLIP-style models, which are not asked.

Two suites are no pairs of images: `pope.py` and `llava_bench.py`, each with its `*_files.py`; `suites.py` is what they
share. `readout.py` asks no model: it tells how much of the answers is in an encoder's tokens (`token_features.py`).
"""
