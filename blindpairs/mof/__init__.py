"""Mixture of Features: LLaVA that sees through CLIP, through DINOv2, or through both.

    model, processor = build_mof("hf:openai/clip-vit-large-patch14", "hf:facebook/dinov2-large", "vicuna-7b", Fusion())
    features = model.encode(pixel_values)  # frozen, may be cached
    tokens = model.fuse(features)          # trainable: (B, image_tokens, D)

Read in this order: `modeling_mof_llava` (the model; the file goes into every checkpoint), `towers` (an encoder spec as
a vision tower of transformers), `building` (towers and a language model become one), `processing` (its processor). Of
the data: `conversations` (LLaVA's files), `templates` (conversations as labelled ids), `indexing` and `checking` (a
file on disk, and what is wrong with it), `examples` and `batches` (what a training step gets), `features` (kept ones).
"""
