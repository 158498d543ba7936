"""Rows of token ids on which small models are trained, with their truth: which position holds each answer. No torch."""
