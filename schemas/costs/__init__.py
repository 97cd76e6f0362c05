"""The `costs:` section of penstock.yaml: prices, budgets, spend limits, capacity forecasts."""
