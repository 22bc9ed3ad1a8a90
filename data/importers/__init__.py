"""Labels and features of others: one file a format, which reads it and, where that is wanted, writes it."""
