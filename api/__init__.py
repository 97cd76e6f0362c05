"""What people and pipelines ask: HTTP routes, SQL, the dashboard."""
