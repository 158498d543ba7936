"""Clean and corrupted prompt pairs: generators, the user's own files, alignment with a tokenizer."""
