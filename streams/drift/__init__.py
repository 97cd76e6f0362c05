"""Drift monitors and detectors of one shard: what they count, remember and store."""
