"""The `drift:` part of penstock.yaml."""
