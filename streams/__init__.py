"""What happens to events: `core` is pure computation, the rest are thin shells around it."""
