"""Evaluation: judging a model; report, curves, cases."""
