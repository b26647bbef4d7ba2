"""The benchmark: its model, its native file, its checks, and one file for each foreign format.

Read `model.py` first, then `native.py` (the Parquet file) and `checks.py`.
"""

from blindpairs.benchmark.model import Answers, Benchmark, BenchmarkPair, ImageReader, Question

__all__ = ["Answers", "Benchmark", "BenchmarkPair", "ImageReader", "Question"]
