"""A small visible world with ground truth, and the small encoders trained on it."""
