"""Classes of transformers that compare pictures with captions."""

COMPARES = ("CLIPModel", "SiglipModel")
