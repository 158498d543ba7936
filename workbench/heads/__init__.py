"""Portraits of heads: what each head does whatever the task, one file per family of measurements."""
