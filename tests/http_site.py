"""A real HTTP server in a thread, which serves files and misbehaves on demand."""

import re
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site(ThreadingHTTPServer):
    """Serves `files`; each request for a path takes the next entry of `faults[path]`, if there is one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.tags, self.links, self.modified = {}, {}, {}, {}
        self.faults = defaultdict(deque)
        self.heads = defaultdict(deque)  # sizes that the next HEADs give instead of the right one
        self.log = []  # (method, path, first byte, body bytes sent, time)
        self.busy = self.busiest = 0
        self.hold_s = 0.0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/archive"

    def sent(self, path):
        return sum(entry[3] for entry in self.log if entry[1] == path and entry[0] == "GET")

    def gets(self, path):
        return [entry for entry in self.log if entry[1] == path and entry[0] == "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        with suppress(ConnectionError):  # a client that was stopped
            super().handle()

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        site = self.server
        with site.lock:
            site.busy += 1
            site.busiest = max(site.busiest, site.busy)
        try:
            time.sleep(site.hold_s)
            self.answer(body=True)
        finally:
            with site.lock:
                site.busy -= 1

    def end_headers(self):
        following = self.server.links.get(self.path.removeprefix("/archive/"))
        if following:
            self.send_header("Link", f'<{self.server.url}/{following}>; rel="next"')
        super().end_headers()

    def answer(self, body):
        site, path = self.server, self.path.removeprefix("/archive/")
        fault = site.faults[path].popleft() if body and site.faults[path] else {}
        data, modified = site.files.get(path), site.modified.get(path, "")
        if self.headers.get("If-Unmodified-Since", modified) != modified:
            fault = {"status": 412}
        if "status" in fault or data is None:
            site.log.append((self.command, path, 0, 0, time.monotonic()))
            self.head(fault.get("status", 404), {**fault.get("headers", {}), "Content-Length": "0"})
            return
        tag = site.tags.get(path, '"one"')
        size = len(data) + fault.get("extra", 0)
        start, behind = 0, size
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ranged = match and self.headers.get("If-Range", tag) == tag and not fault.get("no_ranges")
        if ranged:
            start, behind = int(match[1]), min(int(match[2] or size) + 1, size)
        length = str(behind - start)
        headers = {
            "Content-Range": f"bytes {start}-{behind - 1}/{size}" if ranged else "",
            "Content-Length": length if body or not site.heads[path] else site.heads[path].popleft(),
            "ETag": tag,
            "Last-Modified": modified,
        }
        self.head(206 if ranged else 200, headers)
        sent = self.send((data + b"?" * fault.get("extra", 0))[start:behind], fault) if body else 0
        site.log.append((self.command, path, start, sent, time.monotonic()))

    def head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def send(self, rest, fault):
        """The bytes, as far as the fault lets them; returns their number."""
        if "corrupt" in fault:
            damaged = bytearray(rest)
            damaged[fault["corrupt"]] ^= 0xFF
            rest = bytes(damaged)
        rest = rest[: fault.get("stop_after", len(rest))]
        for number in range(len(rest) if "drip_s" in fault else 0):
            self.wfile.write(rest[number : number + 1])
            time.sleep(fault["drip_s"])
        self.wfile.write(rest)
        self.wfile.flush()
        time.sleep(fault.get("silent_s", 0))
        self.close_connection = self.close_connection or "stop_after" in fault
        return len(rest)
