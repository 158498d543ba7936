"""The attention lab: one hooked attention with plugs, a small model made of it, and a trainer of comparisons."""
