"""Where the servers of the tests keep what they have: SQLite and a folder, PostgreSQL and a folder, or PostgreSQL and S3.
Any number of processes may share a place of the last two kinds."""

import copy
import re
import secrets
import sqlite3
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

sys.path.append(str(Path(__file__).parents[1]))
import services

IDENTITY = "penstock-store"  # the blob that tells one store from another


class Database:
    """SQLite or PostgreSQL, asked alike: with `?` for values, and rows as dictionaries."""

    def __init__(self, address):
        self.is_postgres = str(address).startswith("postgres")
        if self.is_postgres:
            import psycopg
            from psycopg.rows import dict_row

            self._connection = psycopg.connect(address, autocommit=True, row_factory=dict_row, connect_timeout=30)
        else:
            uri = f"{Path(address).resolve().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
            self._connection.row_factory = lambda cursor, row: dict(zip([one[0] for one in cursor.description], row))

    @staticmethod
    def errors():
        """What it raises when it cannot be read."""
        psycopg = sys.modules.get("psycopg")
        return (sqlite3.DatabaseError, psycopg.Error) if psycopg else sqlite3.DatabaseError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def rows(self, statement, *values):
        cursor = self._connection.execute(statement.replace("?", "%s") if self.is_postgres else statement, values)
        return cursor.fetchall() if cursor.description else []

    def freeze(self):
        """All that is read from here on is of the same moment; nothing can be written."""
        if self.is_postgres:
            self.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        else:
            self.rows("PRAGMA query_only = ON")
            self.rows("BEGIN")


def on_port(url, port):
    return re.sub(r":\d+/", f":{port}/", url) if port else url


class Place:
    """One deployment's database and blobs. A process of its own folder gets `arguments(data)` and `env`."""

    is_shared = True  # what may be others' is swept only when it is a day old
    env = {}
    secrets = ()  # that no log may have
    memory = 32 << 20  # that a process may take, besides 100 bytes a line

    def __init__(self, database, blobs):
        self.database = database  # a path or a URL
        self.blobs = blobs  # the folder that they lie in, also those of S3
        self.database_port = None  # another way to it
        self.key = None  # an API key of the default project, once there are any
        self.was_away = False  # the database was, so there may be blobs whose rows could not be written
        self.processes = []  # that were made for it

    def is_littered(self):
        """Whether something may be left that nobody has swept."""
        return self.was_away or self.is_shared and any(process.was_killed for process in self.processes)

    def arguments(self, data):
        return ["--data", data, "--database", on_port(self.database, self.database_port), "--blobs", self.blobs]

    def through(self, database=None, s3=None):
        """The same place for a process that reaches it through those ports."""
        other = copy.copy(self)
        other.database_port = database
        if s3:
            other.env = self.env | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}"}
        return other

    def rows(self, statement, *values):
        """Reads or changes the database behind the servers' backs."""
        with Database(self.database) as database:
            return database.rows(statement, *values)

    def names(self):
        """The keys of its blobs."""
        files = self.blobs.iterdir() if self.blobs.exists() else ()
        return sorted(path.name for path in files if path.is_file() and path.name != IDENTITY)

    def unfinished(self):
        """The blobs that are being written, or were when their writer died."""
        folder = self.blobs / "tmp"
        return sorted(folder.iterdir()) if folder.exists() else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Local(Place):
    is_shared = False

    def __init__(self, folder):
        super().__init__(folder / "data/penstock.db", folder / "data/blobs")

    def arguments(self, data):
        return ["--data", data]


class Postgres(Place):
    memory = 80 << 20

    def __init__(self, folder, server, blobs=None):
        self.server = server
        self.name = f"test_{secrets.token_hex(8)}"
        self.secrets = (server.password,)
        with Database(server.url) as admin:
            admin.rows(f"CREATE DATABASE {self.name}")
        super().__init__(urlunsplit(urlsplit(server.url)._replace(path=f"/{self.name}")), blobs or folder / "blobs")

    def __exit__(self, *_):
        with Database(self.server.url) as admin:
            admin.rows(f"DROP DATABASE {self.name} WITH (FORCE)")


class PostgresAndS3(Postgres):
    memory = 160 << 20

    def __init__(self, folder, server, s3):
        super().__init__(folder, server, s3.objects / folder.name)
        self.s3 = s3
        self.secrets += (s3.secret,)
        self.env = {
            "AWS_ENDPOINT_URL": s3.url,
            "AWS_ACCESS_KEY_ID": s3.key,
            "AWS_SECRET_ACCESS_KEY": s3.secret,
            "AWS_REGION": services.REGION,
        }

    def arguments(self, data):
        database = on_port(self.database, self.database_port)
        return ["--data", data, "--database", database, "--blobs", f"s3://{services.BUCKET}/{self.blobs.name}"]

    def unfinished(self):
        """Uploads in parts that are neither complete nor aborted."""
        names = (self.s3.name_of_upload(path) for path in self.s3.objects.glob(".sgwtmp/multipart/*"))
        return sorted(name for name in names if name.startswith(f"{self.blobs.name}/"))


STORES = ("sqlite", "postgres", "postgres+s3")
_store = STORES[0]
_running = {}  # services of this session, by their class


def use(store):
    """From now on places are of that kind."""
    global _store
    _store = store
    for service in {"sqlite": (), "postgres": (services.Postgres,)}.get(store, (services.Postgres, services.S3)):
        _running[service] = service()


def end():
    while _running:
        _running.popitem()[1].close()


def new(folder):
    """A place of its own for what runs in that folder."""
    if _store == "sqlite":
        return Local(folder)
    if _store == "postgres":
        return Postgres(folder, _running[services.Postgres])
    return PostgresAndS3(folder, _running[services.Postgres], _running[services.S3])
