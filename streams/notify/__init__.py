"""Changes of alerts and verdicts, taken to people and to `penstock.alerts`."""
