"""What everyone agrees on: events, frames, tables, configuration, errors."""
