"""An S3 server that is full for a while: passes everything on, and refuses what would be written while it is told to."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from .s3 import S3Server

FULL = b"""<?xml version="1.0" encoding="UTF-8"?><Error><Code>XMinioStorageFull</Code><Message>the store is full</Message></Error>"""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}


class S3Gate:
    """In front of one server, on a port of its own. Requests are passed on as they are: their signatures hold."""

    def __init__(self, server: S3Server) -> None:
        self._backend = urlsplit(server.url).netloc
        self.is_full = threading.Event()
        self.refused = 0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if gate.is_full.is_set() and self.command in ("PUT", "POST"):
                    gate.refused += 1
                    self._answer(507, [("Content-Type", "application/xml")], FULL)
                    return
                try:
                    backend = http.client.HTTPConnection(gate._backend, timeout=60)
                    backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in HOP_BY_HOP:
                            backend.putheader(name, value)
                    backend.endheaders(body or None)
                    answer = backend.getresponse()
                    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
                    self._answer(answer.status, headers, answer.read())
                    backend.close()
                except OSError:
                    self.close_connection = True

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                is_head = self.command == "HEAD"
                for name, value in headers:
                    if is_head or name.lower() != "content-length":
                        self.send_header(name, value)
                if not is_head:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not is_head:
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"
