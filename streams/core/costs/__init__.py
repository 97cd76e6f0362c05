"""What traffic costs, what it will have cost, and when a fleet is full."""
