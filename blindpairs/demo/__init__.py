"""Small synthetic scenes with ground truth, and the two small encoders trained on them.

Read in this order: `world` (what a scene is), `figures` and `draw` (its pixels), `corpus` (the file of scenes),
`towers` and `train` (the encoders), `truth` (scores against the ground truth), `loop` (the command), `drafting`
(questions from the ground truth), `choosing` and `benchmark` (the benchmark that ships), `small_suites` (POPE and
LLaVA-Bench of scenes), `following` (instructions that ask for a form) and `labelled_pairs` (to train readouts on).
"""
