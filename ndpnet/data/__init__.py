"""Data: layouts of files, the split by group, decoding into arrays, demo surfaces."""
