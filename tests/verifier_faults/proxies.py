"""Proxies that break: one for TCP, and nginx as a cache that ignores what it is told."""

import contextlib
import socket
import threading

from processes import FOLDER, free_port, run, write


class Proxy:
    """Passes bytes on. `cut` closes connections and refuses more; `stall` keeps them, and passes
    nothing."""

    def __init__(self, target_port):
        self.port, self._target_port = free_port(), target_port
        self._flowing, self._is_cut, self._open = threading.Event(), False, set()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1000)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._is_cut = True
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stall(self):
        self._flowing.clear()

    def heal(self):
        self._is_cut = False
        self._flowing.set()

    def lead_to(self, target_port):
        """Sends all further connections elsewhere, and closes the present ones."""
        self._target_port = target_port
        self.cut()
        self.heal()

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            if self._is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), 5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=[source, sink], daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            self._open.discard(connection)


def start_caching_proxy(target_port):
    """Starts nginx that keeps each reply of the feed for a minute and gives it to every request."""
    port = free_port()
    # The folder is open to its owner alone; without root, nginx ignores `user`.
    config = write("cache.conf", f"""
        user root; daemon off; pid {FOLDER}/cache.pid; events {{}}
        http {{
            access_log off;
            proxy_cache_path {FOLDER}/cache keys_zone=feed:1m;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://127.0.0.1:{target_port};
                    proxy_cache feed; proxy_cache_key $uri; proxy_cache_valid 200 60s;
                    proxy_ignore_headers Cache-Control Expires Vary;
                }}
            }}
        }}""")
    run("cache", ["nginx", "-e", "stderr", "-p", str(FOLDER), "-c", config], port)
    return port
