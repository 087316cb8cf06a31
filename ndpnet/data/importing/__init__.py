"""Bringing the pictures of other layouts, archives and buckets into the one layout of data/."""
