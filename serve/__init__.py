"""Processes: what they are given becomes parts that fit together, and signals end them in order."""
