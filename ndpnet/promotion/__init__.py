"""Which version production follows, and why: the gate, its evidence, the move, and whether a version can be rebuilt."""
