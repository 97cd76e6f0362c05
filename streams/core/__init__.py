"""Pure computation: no clock, no environment, no I/O; time and configuration are arguments."""
