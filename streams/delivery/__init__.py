"""Delivery of notifications: pure builders of messages, thin senders, and the outbox between them."""
