"""Mixture of Features: a LLaVA whose language model sees through CLIP, DINOv2, or both; its data and its training."""
