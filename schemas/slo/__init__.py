"""Service level objectives in penstock.yaml: the short form, presets, and OpenSLO v1 documents."""
