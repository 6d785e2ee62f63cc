"""The gateways of examples/gateways, started with the files that are there. Only ports and paths are
replaced."""

import re
import sys
from pathlib import Path

from processes import FOLDER, free_port, run, write

EXAMPLES = Path("examples/gateways")
TOOLS = Path(sys.executable).parent


class Gateway:
    """A gateway in front of the upstream. Subclasses say how to start it."""

    # Statuses of a request while the service cannot be reached, and while it does not answer.
    dead, slow = 503, 503
    # Longest time in which the gateway waits for a verdict, in seconds.
    patience = 2

    def __init__(self, service_port, upstream_port):
        self.name = type(self).__name__
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ports = {"5000": service_port, "9000": upstream_port, "8080": self.port}
        self.start()

    def example(self, name, **paths):
        """Copies a file of the example, and returns the path of the copy."""
        text = (EXAMPLES / name).read_text()
        text = re.sub(r"\b(5000|9000|8080)\b", lambda port: str(self.ports[port[0]]), text)
        for path, replacement in paths.items():
            assert path in text, f"{name} does not name {path}"
            text = text.replace(path, replacement)
        return write(name, text)

    def run(self, *command):
        run(self.name, command, port=self.port, XDG_CONFIG_HOME=FOLDER, XDG_DATA_HOME=FOLDER)


class Nginx(Gateway):
    def start(self):
        site = self.example("nginx.conf")
        main = write("nginx-main.conf", f"""
            daemon off; user root; pid {FOLDER}/nginx.pid; error_log stderr;
            events {{}}
            http {{ access_log off; client_body_temp_path {FOLDER}/body; include {site}; }}
        """)
        self.run("nginx", "-p", FOLDER, "-c", main)


class Traefik(Gateway):
    dead, slow, patience = 500, 500, 30

    def start(self):
        routes = self.example("traefik-routes.yml")
        config = self.example("traefik.yml", **{"/etc/traefik/traefik-routes.yml": routes})
        self.run(TOOLS / "traefik", f"--configFile={config}")


class Caddy(Gateway):
    dead, slow = 502, 504

    def start(self):
        config = self.example("Caddyfile")
        self.run(TOOLS / "caddy", "run", "--adapter", "caddyfile", "--config", config)


class Envoy(Gateway):
    def start(self):
        config = self.example("envoy.yaml")
        self.run(TOOLS / "envoy", "-c", config, "--concurrency", "1", "--disable-hot-restart",
                 "--log-level", "warning")


class HAProxy(Gateway):
    slow = 504

    def start(self):
        action = self.example("portcullis.lua")
        config = self.example("haproxy.cfg", **{"/etc/haproxy/portcullis.lua": action})
        self.run("haproxy", "-db", "-f", config)


GATEWAYS = [Nginx, Traefik, Caddy, Envoy, HAProxy]
