"""What many processes need is asked for in one line."""

import pytest

from penstock import penstock

pytestmark = pytest.mark.local


@pytest.mark.parametrize("settings", [(), ("--database", "penstock.db")])
def test_fault_11_a_worker_on_sqlite_is_refused_in_one_line(tmp_path, settings):
    worker = penstock("worker", "--data", "data", *settings, "--engine", "http://127.0.0.1:1", folder=tmp_path, timeout=20)
    assert worker.returncode == 2
    assert len(worker.stderr.splitlines()) == 1 and "postgres" in worker.stderr


def test_a_database_that_is_away_at_the_start_is_told_without_its_password(tmp_path):
    settings = ("--data", "data", "--database", "postgres://user:secret@127.0.0.1:1/penstock", "--listen", "127.0.0.1:0")
    server = penstock("serve", *settings, folder=tmp_path, timeout=60)
    assert server.returncode != 0
    assert "127.0.0.1" in server.stderr and "secret" not in server.stderr
