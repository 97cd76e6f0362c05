"""Streaming detectors: one value in, an alarm or none out."""
