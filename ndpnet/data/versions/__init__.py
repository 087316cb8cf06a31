"""Which pictures exactly: what is pinned, what is here, what a batch adds, how a version is fetched."""
