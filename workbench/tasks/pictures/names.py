"""Names of models that pictures have to do with, for those who load nothing else."""

COMPARES = ("CLIPModel", "SiglipModel")
"""Classes of transformers that compare pictures with captions."""
