"""Inspecting a prefix on S3 in shards: a plan of pictures and one model, shards on their own, one table of all."""
