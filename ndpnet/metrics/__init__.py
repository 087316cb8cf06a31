"""Metrics of scores and anomaly maps, their intervals and the threshold: numbers alone, without files or models."""
