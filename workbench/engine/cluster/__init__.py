"""Past one process: workers of a Ray cluster that compute the parts of a sweep, a search or a bench."""
