"""What every command takes if nothing else is given: the work folder, and the two encoders that are compared.

Imports nothing heavy, because `doctor` and the help texts name the defaults, too.
"""

from pathlib import Path

WORK = Path("blindpairs-work")
COLUMNS = ("clip", "dino")  # of a store: the encoders in the roles of CLIP and DINOv2
# Column -> spec: of any corpus, and of the demo's.
PAPER_ENCODERS = {"clip": "open_clip:ViT-L-14/openai", "dino": "hf:facebook/dinov2-large"}
DEMO_ENCODERS = {"clip": "demo:clip", "dino": "demo:dino"}
