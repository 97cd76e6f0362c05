"""`penstock doctor`: what is wrong with what Penstock stands on, and what to do about it."""
