"""Seed program S7: pages fetched at once by plain blocking urllib; a dead site harms no other."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.seed.conftest import EXAMPLES

SLOW = 1.0  # seconds for a page
PAGES = 12


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SLOW)
        page = f"this is {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_are_fetched_at_once_and_a_dead_site_harms_no_other(site: str, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:1/"
    urls = [f"{site}/{number}" for number in range(PAGES)]
    urls.insert(3, dead)
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, EXAMPLES / "s7_crawler.py", *urls],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    seconds = time.monotonic() - began
    assert (run.returncode, run.stderr) == (0, "")
    assert seconds < PAGES * SLOW  # one after another they would take so long on one core, and half of it on two
    pages = {file: (tmp_path / file).read_text() for file in os.listdir(tmp_path)}
    assert sorted(pages.values()) == sorted(f"this is /{number}" for number in range(PAGES))
    assert f"{dead} failed: <urlopen error [Errno 111] Connection refused>" in run.stdout
    assert run.stdout.count("GET: ") == PAGES + 1
    assert run.stdout.count(" are in ") == PAGES
