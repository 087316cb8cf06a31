"""The two training phases and the loop that runs them."""
