"""One file for each command: what is asked, and the one function that does it."""
