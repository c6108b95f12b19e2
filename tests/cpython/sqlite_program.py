# args: 8
# modes: default warm eager
# sqlite3: tables, transactions, functions, aggregates and collations written in Python and called
# back from SQLite's own loops, errors in them, dumps and backups.
import os
import sqlite3
import sys
import tempfile


class Median:
    def __init__(self):
        self.values = []

    def step(self, value):
        self.values.append(value)

    def finalize(self):
        return sorted(self.values)[len(self.values) // 2]


def mix(a, b):
    h = 17
    for c in b:
        h = (h * 31 + ord(c) + a) % 65521
    return h


def backwards(a, b):
    a, b = a[::-1], b[::-1]
    return (a > b) - (a < b)


def fill(connection, rows):
    connection.execute("create table word (id integer primary key, text text not null, weight real)")
    connection.executemany("insert into word (text, weight) values (?, ?)", ((f"w{i * 7919 % 1000:03}", i / 8) for i in range(rows)))
    connection.commit()


def ask(connection):
    print(connection.execute("select count(*), sum(weight), min(text), max(text) from word").fetchone())
    print(connection.execute("select mix(id, text), text from word order by 1 limit 5").fetchall())
    print(connection.execute("select id % 7, median(weight) from word group by 1").fetchall())
    print([row[0] for row in connection.execute("select distinct text from word order by text collate backwards limit 6")])
    s = 0
    for number, text, weight in connection.execute("select * from word"):
        s = (s * 3 + number + len(text) + int(weight)) % 1000003
    print(s)
    connection.row_factory = sqlite3.Row
    row = connection.execute("select * from word where id = 77").fetchone()
    print(row.keys(), row["text"], tuple(row))
    connection.row_factory = None


def fail(connection):
    def refuse(n):
        if n > 500:
            raise ValueError(n)
        return n

    connection.create_function("refuse", 1, refuse)
    for statement in ("select sum(refuse(id)) from word", "select nothing from word", "insert into word (text) values (null)", "select * from"):
        try:
            connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            print(type(error).__name__, error)
    try:
        with connection:
            connection.execute("delete from word where id < 100")
            raise RuntimeError("roll back")
    except RuntimeError:
        print(connection.execute("select count(*) from word").fetchone())
    turns = 0

    def progress():
        nonlocal turns
        turns += 1
        return turns > 20

    connection.set_progress_handler(progress, 1000)
    try:
        print(connection.execute("select count(*) from word a, word b").fetchone())
    except sqlite3.OperationalError as error:
        print(error, turns)
    connection.set_progress_handler(None, 0)


with tempfile.TemporaryDirectory() as folder:
    for turn in range(int(sys.argv[1])):
        place = os.path.join(folder, f"words{turn}.db") if turn % 2 else ":memory:"
        connection = sqlite3.connect(place)
        connection.create_function("mix", 2, mix, deterministic=True)
        connection.create_aggregate("median", 1, Median)
        connection.create_collation("backwards", backwards)
        fill(connection, 3000)
        ask(connection)
        fail(connection)
        other = sqlite3.connect(":memory:")
        connection.backup(other)
        dump = "\n".join(other.iterdump())
        third = sqlite3.connect(":memory:")
        third.executescript(dump)
        print(len(dump), third.execute("select count(*), total(weight) from word").fetchone())
        for opened in (connection, other, third):
            opened.close()
