"""Alerts, objectives, budgets and spend limits of one shard: evaluated, and stored as rows."""
