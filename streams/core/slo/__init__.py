"""SLOs: from closed tiles to attainment, error budgets, burn rates and alarms."""
