"""Steps 2 and 3 of the tutorial: arrays in, tensors out."""
