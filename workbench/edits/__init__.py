"""Standing changes to how a model computes: made, stacked, saved, measured; the model itself is untouched."""
