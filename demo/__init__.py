"""`penstock demo` and `penstock replay`: an hour of real traffic, a canary or faults, and what comes of it."""
