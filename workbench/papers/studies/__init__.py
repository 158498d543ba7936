"""The study behind a published circuit, re-run step by step on any model, each claim tested."""
