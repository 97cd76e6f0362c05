"""The section `alerts` of penstock.yaml: rules, who is told, and what is kept quiet."""
