"""Scores of CLIP models, vision-language models and people on a benchmark.

Asked in words: `asking.py` (the prompts), `answering.py` (who answers, `baselines.py` and `judging.py` beside it),
`answers.py` and `results.py` (what is kept), `reading.py` (from what was said to an option), `scores.py` and
`summary.py` (numbers with intervals); `session.py` puts them together. `foreign_answers.py` imports what other
harnesses recorded, and `readers.py` gives the numbers that they would print, each by its `as_*.py`. People are asked
and scored by `study.py`, on the pages of `study_pages.py`.

Not asked: `similarity.py` scores CLIP-style models by cosine, and `readout.py` measures how much of the answers is in
an encoder's tokens. `comparison.py` says whether one model is better than another, `report.py` shows all of it as a
page. Suites ask about single images: `pope.py`, `llava_bench.py` and `following.py`; `suites.py` is what they share,
`suite_questions.py` gives each its questions, and `suite_session.py` asks and scores them.
"""
