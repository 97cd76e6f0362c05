"""Kafka: its topics, and messages in and out of it."""
