"""`penstock audit`: whether everything that is published follows from the raw rows and the ledger."""
