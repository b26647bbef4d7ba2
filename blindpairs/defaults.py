"""What every command takes if nothing else is given: the work folder, the encoders, and their cosines of a blind pair.

Imports nothing heavy, because `doctor` and the help texts name the defaults, too.
"""

from pathlib import Path

WORK = Path("blindpairs-work")
COLUMNS = ("clip", "dino")  # of a store: the encoders in the roles of CLIP and DINOv2
CLIP_MIN, DINO_MAX = 0.95, 0.6  # cosines of a blind pair: the paper's thresholds (arXiv 2401.06209, section 2)
# Column -> spec: of any corpus, and of the demo's.
PAPER_ENCODERS = {"clip": "open_clip:ViT-L-14/openai", "dino": "hf:facebook/dinov2-large"}
DEMO_ENCODERS = {"clip": "demo:clip", "dino": "demo:dino"}
