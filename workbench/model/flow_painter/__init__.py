"""A model of ours that paints, and its sampler."""

from __future__ import annotations

from collections.abc import Mapping

OWN_TYPES: Mapping[str, str] = {"painter": "workbench.model.flow_painter.model"}
"""``model_type`` of configurations of ours, and the module that makes transformers know it."""
