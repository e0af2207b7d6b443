"""The only package that knows SQL. Functions over a SQLAlchemy connection, the same for both databases; `database` runs them.

await database.write(outbox.claim, "sink", 10, ...)      one transaction, durable when it returns
await database.read(verdicts.page, filter, ...)
"""
