"""Alerts: from closed tiles to transitions, and from transitions to notifications that are due."""
