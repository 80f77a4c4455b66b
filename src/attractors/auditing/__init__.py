"""Does a model copy its training data? The answer for anyone's samples, as numbers and as a page."""
