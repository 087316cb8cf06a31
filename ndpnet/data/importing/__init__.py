"""Bringing the pictures of other layouts, archives and buckets into the one layout of data/."""

TEST_GOOD_SHARE = 0.2  # of the good groups, where the publisher has no test set
MAX_BYTES = 200_000_000_000  # that an archive may expand to
