"""A small API behind the gateways, which shows what it receives."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream:
    """Serves in this process. `requests` counts what has reached it."""

    def __init__(self):
        self.requests = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self):
                upstream.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                shown = {"method": self.command, "path": self.path, "body": len(body),
                         "headers": self.headers.items()}
                reply = json.dumps(shown).encode()
                self.send_response(200)
                self.send_header("Content-Length", len(reply))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PURGE = reply

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Gateways may reset their connections."""

        server = Server(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
