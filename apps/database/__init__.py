"""The database: engine, time limits, transactions, migrations."""
