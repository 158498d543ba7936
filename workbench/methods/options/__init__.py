"""What the methods can be asked: options, cost and claim of each, known before anything is loaded."""
