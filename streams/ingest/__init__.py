"""From messages to durable rows: who is at home here, what is stored, and what a delta tells of it."""
