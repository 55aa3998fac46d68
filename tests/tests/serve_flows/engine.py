# Runs statements, then questions, on an engine. In: JSON on stdin. Out: the rows of each question as JSON.
import json
import sys

asked = json.load(sys.stdin)
if asked["engine"] == "DuckDB":
    import duckdb

    connection = duckdb.connect()

    def rows(sql):
        return [list(row) for row in connection.sql(sql).fetchall()]

    run = connection.execute
else:
    from chdb import session

    connection = session.Session()

    def rows(sql):
        settings = " SETTINGS output_format_json_quote_64bit_integers = 0"
        return json.loads(str(connection.query(sql + settings, "JSONCompact")))["data"]

    run = connection.query

for statement in asked["statements"]:
    run(statement)
answers = {name: rows(sql) for name, sql in asked["questions"].items()}
# Sums of DuckDB's have 128 bits.
json.dump(answers, sys.stdout, default=float)
