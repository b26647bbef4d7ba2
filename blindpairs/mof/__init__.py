"""Mixture of Features: LLaVA that sees through CLIP, through DINOv2, or through both; its data and its training.

    model, processor = build_mof("hf:openai/clip-vit-large-patch14", "hf:facebook/dinov2-large", "vicuna-7b", Fusion())
    features = model.encode(pixel_values)  # frozen, may be cached
    tokens = model.fuse(features)          # trainable: (B, image_tokens, D)
    train(load_preset("demo").recipe, work / "runs" / "mine")

Read in this order. The model: `modeling_mof_llava` (the file goes into every checkpoint), `towers` (an encoder spec as
a vision tower of transformers), `building` (towers and a language model become one), `processing` (its processor),
`generation` (how it answers). The data: `conversations` or `shards` (rows of a file, or of archives), `templates` (rows
as ids), `indexing` (both kept), `checking` (what is wrong with them), `pixels` and `features` (images as the towers see
them, or saw them), `examples`, `batches`. Training: `recipe` and `presets`, `training` (the stages of a run), `trainer`
(the steps of a stage), `run` (its folder). What it will take: `cost`.
"""
