"""What everything stands on: errors, files that are whole or not there, records, statistics; no torch."""
