"""Scores of CLIP models, vision-language models and people on a benchmark.

Read `reading.py` first (from what was said to an option), then `scores.py` (from options to numbers with intervals),
then `comparison.py` (whether one model is better than another).
"""
