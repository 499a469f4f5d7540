"""What a person reads about a run: figures, a page, lines in the terminal."""
