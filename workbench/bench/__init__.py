"""Every method side by side: against known circuits, and on trained tasks."""
