"""The images: who runs in them, what is in them, and that they compute what this environment computes."""
