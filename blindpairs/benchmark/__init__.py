"""The benchmark: its model, its native file, its checks, and one file for each foreign format.

Read `model.py` first, then `native.py` (the Parquet file) and `checks.py` (with `clip_tokens.py`). `foreign.py` is what
each foreign format gives back; `mmvp.py`, `mmvp_vlm.py`, `naturalbench.py` and `mediconfusion.py` are such formats,
`clip_embeds.py` adds to two of them, and `recognise.py` tells which one a path holds. `vlmevalkit.py` and
`lmms_eval.py` write for evaluation harnesses, and `hub.py` (with `card.py`) for the Hugging Face hub. They share
`tables.py` and `questions.py` (reading), `assembly.py` (from files to pairs), `folders.py`, `rgb.py` and `sidecar.py`
(writing).
"""

from blindpairs.benchmark.model import Answers, Benchmark, BenchmarkPair, HeldImages, ImageReader, Question

__all__ = ["Answers", "Benchmark", "BenchmarkPair", "HeldImages", "ImageReader", "Question"]
