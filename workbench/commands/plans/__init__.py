"""What a dry run says of each command, from configuration and pairs: no weights, and no torch for a sealed model."""
