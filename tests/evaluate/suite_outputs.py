"""What LLaVA's and lmms-eval's own code made of recorded answers and replies, so that ours is held to it without them.

haotian-liu/LLaVA c121f043: llava/eval/eval_pope.py, eval_gpt_review_bench.py, eval_gpt_review_visual.py (with a stub in
place of the judge) and summarize_gpt_review.py. EvolvingLMMs-Lab/lmms-eval 75571cfe: lmms_eval/tasks/pope/utils.py and
tasks/llava-in-the-wild/utils.py.
"""

# fmt: off
# Twelve of each split, in this order: random, popular, adversarial. Question n of a split is about image n // 2, and
# asks for a cat (even n) or a dog; its label is no where (n // 2 + n) % 3 == 0.
POPE_ANSWERS = (
    "Yes", "No", "yes", "no.", "Yes, there is a cat in the image.", "No, there is no cat in the image.",
    "There is not a cat. Yes, I am sure.", "Not sure", "", "NO", "no\nIt is a dog", "I cannot see a cat",
    "Yes.", "No", "YES", "The answer is no", "Yes", "Nothing", "No, thank you", "yes and no",
    "it is not, I think", "The image shows a dog. No cat.", "<think>no</think>yes", "Yes!",
    "no", "Yes", "no", "There isn't a cat", "Yes,no", "Yes", "No way", "A cat",
    "yes ", "\nNo", "no", "yes",
)
# fmt: on
# eval_pope.py prints these: accuracy, precision, recall, F1, yes ratio.
LLAVA_POPE = {
    "random": (0.3333333333333333, 0.375, 0.5, 0.42857142857142855, 0.6666666666666666),
    "popular": (0.4166666666666667, 0.42857142857142855, 0.5, 0.4615384615384615, 0.5833333333333334),
    "adversarial": (0.8333333333333334, 0.75, 1.0, 0.8571428571428571, 0.6666666666666666),
}
# The aggregates of lmms-eval, in the same order; "all" is its task `pope`, the others its tasks of one split.
LMMS_EVAL_POPE = {
    "random": (0.0, 0.0, 0.0, 0, 0.5),
    "popular": (0.0, 0.0, 0.0, 0, 0.5),
    "adversarial": (0.5, 0.75, 0.75, 0.75, 0.5),
    "all": (0.16666666666666666, 0.375, 0.42857142857142855, 0.39999999999999997, 0.5),
}

# A judge's replies about questions of the categories conv, detail, complex, conv, ..., three to an image.
REPLIES = (
    "8 7\nGood.",
    "9, 6\nA",
    "7 7",
    "**8 7**\nx",
    "Assistant 1: 8\nAssistant 2: 6",
    "8  7\nTwo spaces",
    "8.5 6.5\nx",
    "\n9 4\nx",
    "10 2 \nx",
    "I cannot rate this.",
    "8/10 5/10\nx",
    "Assistant 1: 9, Assistant 2: 3",
    "6 9\nx",
    "8 0\nx",
    "7,5\nx",
)
# fmt: off
# The tuples that eval_gpt_review_bench.py wrote, and what lmms-eval parses.
LLAVA_TUPLES = (
    (8.0, 7.0), None, (7.0, 7.0), None, None, None, (8.5, 6.5), None, None, None, None, None, (6.0, 9.0), (8.0, 0.0),
    (7.0, 5.0),
)
LMMS_EVAL_TUPLES = (
    (8.0, 7.0), (9.0, 6.0), (7.0, 7.0), (8.0, 7.0), (1.0, 8.0), (8.0, 7.0), (8.5, 6.5), (9.0, 4.0), (10.0, 2.0), None,
    (8.0, 10.0), (1.0, 9.0), (6.0, 9.0), (8.0, 0.0), (7.0, 5.0),
)
# fmt: on
# summarize_gpt_review.py printed: relative score, ten times the mean score of the reference, and of the model.
LLAVA_SUMMARY = {
    "all": (71.8, 23.7, 17.0),
    "complex": (81.8, 22.0, 18.0),
    "conv": (100.0, 41.0, 41.0),
    "detail": (-100.0, 8.0, -8.0),
}
LMMS_EVAL_SUMMARY = {"all": 88.7, "conv": 96.6, "detail": 80.0, "complex": 90.9}
# The sha256 of the prompts that the two scripts sent for the questions of tests/evaluate/test_llava_bench.py.
WILD_PROMPT = "cc0f2971f4aff746b8573b0db0bc6727ca272e16269be3d8002279485750ffc9"
COCO_PROMPT = "51e3530df224c7e42a74f610c1aeb90e85f5a4ec2ea3381528beebe94b69e768"
