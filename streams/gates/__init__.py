"""Live gates of one shard: what they count is stored first, then judged (docs/decisions/0013)."""
