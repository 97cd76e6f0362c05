"""What runs inside a worker: the emitter and what it is made of."""
