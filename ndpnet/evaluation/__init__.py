"""Evaluation: metrics, threshold, ablation, report."""
