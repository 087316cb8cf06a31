"""Trains and scores one peer: `python -m worker JOB.json` beside this package, in an environment without ndpnet."""
