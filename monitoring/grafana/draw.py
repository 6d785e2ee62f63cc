"""Draws docs/images/dashboard.png: `make dashboard-image`. Runs two instances and Prometheus, makes traffic of
users and of an attacker, stops the database for a while, and draws the dashboard from its own queries. It is
a drawing in the layout of the dashboard, and not a picture of Grafana. Needs a private Postgres
(tests/with-postgres.sh) and takes eight minutes, on loopback only."""

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests/shared"))
import matplotlib.dates
import matplotlib.pyplot as plt
import requests
from matplotlib.transforms import IdentityTransform
from PIL import Image
from processes import FOLDER, ending, eventually, free_port, run, run_main, write

ROOT = Path(__file__).parents[2]
PROGRAM = os.environ.get("PROGRAM", str(ROOT / "target/release/portcullis"))
DASHBOARD = json.loads((Path(__file__).parent / "dashboards/portcullis.json").read_text())
SECONDS, SCRAPE_INTERVAL = 480, 5
ATTACK, OUTAGE = (180, 300), (375, 400)
USERS = 20
CELL = (50, 33)
BACKGROUND, PANEL, TEXT, MUTED = "#111217", "#181b1f", "#d8d9da", "#8e9099"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": TEXT}
LINES = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d"]


class Traffic:
    """Users who log in, ask, refresh and log out, and an attacker who guesses and forges."""

    def __init__(self, instances):
        self.instances = instances
        self.began_at = None

    def elapsed(self):
        return time.monotonic() - self.began_at

    def ask(self, method, path, address, token=None, **body):
        headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = random.choice(self.instances) + path
        return requests.request(method, url, json=body or None, headers=headers, timeout=20)

    @staticmethod
    def user(number):
        return {"username": f"user{number}", "password": "a good password"}, f"192.0.2.{number}"

    def use(self, number):
        """One user, who comes again and again."""
        name, address = self.user(number)
        ending.wait(random.uniform(0, SECONDS / 6))
        while not ending.is_set():
            login = self.ask("POST", "/auth/login", address, **name)
            if login.status_code == 200:
                self.work(login.json(), address)
            time.sleep(random.uniform(1, 4))

    def work(self, session, address):
        for step in range(random.randrange(100, 400)):
            path = random.choice(["/auth/check", "/auth/check", "/protected/dashboard", "/auth/me"])
            reply = self.ask("GET", path, address, session["access_token"])
            if reply.status_code == 401 or ending.wait(random.uniform(0.05, 0.3)):
                return
            if step % 50 == 49:
                refreshed = self.ask("POST", "/auth/refresh", address, refresh_token=session["refresh_token"])
                session = refreshed.json() if refreshed.status_code == 200 else session
        self.ask("POST", "/auth/logout", address, session["access_token"])

    def attack(self):
        while not ending.wait(0.3):
            if ATTACK[0] < self.elapsed() < ATTACK[1]:
                address = f"198.51.100.{random.randrange(100)}"
                self.ask("POST", "/auth/login", address, username=f"user{random.randrange(USERS)}", password="123456")
                self.ask("GET", "/protected/dashboard", address, "forged.token.forged")

    def register(self):
        for name, address in map(self.user, range(USERS)):
            self.ask("POST", "/auth/register", address, **name)

    def start(self):
        self.began_at = time.monotonic()
        for work in [lambda n=n: self.use(n) for n in range(USERS)] + [self.attack] * 6:
            threading.Thread(target=self.repeat, args=[work], daemon=True).start()

    def repeat(self, work):
        while not ending.is_set():
            try:
                work()
            except requests.RequestException:
                time.sleep(0.5)


class Prometheus:
    def __init__(self, targets):
        self.port = free_port()
        config = {"global": {"scrape_interval": f"{SCRAPE_INTERVAL}s", "evaluation_interval": f"{SCRAPE_INTERVAL}s"},
                  "rule_files": [str(ROOT / "monitoring/alerts.yml")],
                  "scrape_configs": [{"job_name": "portcullis", "static_configs": [{"targets": targets}]}]}
        run("prometheus", ["prometheus", f"--config.file={write('prometheus.yml', json.dumps(config))}",
                           f"--storage.tsdb.path={FOLDER}/tsdb", f"--web.listen-address=127.0.0.1:{self.port}"],
            self.port)

    def query(self, kind, expr, **parameters):
        values = {"$__rate_interval": f"{4 * SCRAPE_INTERVAL}s", "$__range": f"{SECONDS}s", "$instance": ".*"}
        for variable, value in values.items():
            expr = expr.replace(variable, value)
        url = f"http://127.0.0.1:{self.port}/api/v1/{kind}"
        return requests.get(url, params={"query": expr} | parameters).json()["data"]["result"]


def formatted(value, unit, decimals=None):
    if unit == "percentunit":
        return f"{value * 100:.{decimals or 0}f} %"
    if unit == "s":
        return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.{0 if value >= 0.01 else 1}f} ms"
    digits = decimals if decimals is not None else 0 if value >= 10 or value == int(value) else 1
    return f"{value:.{digits}f}" + {"reqps": " req/s", "ops": " ops/s"}.get(unit, "")


def named(result, target):
    name = target.get("legendFormat", "")
    for label, value in result["metric"].items():
        name = name.replace("{{%s}}" % label, value)
    return name


def draw_stat(axes, panel, prometheus, end):
    fields, target = panel["fieldConfig"]["defaults"], panel["targets"][0]
    results = prometheus.query("query", target["expr"], time=end)
    text, color = fields["noValue"], MUTED
    if results:
        value = float(results[0]["value"][1])
        text = formatted(value, fields["unit"], fields.get("decimals"))
        if panel["options"]["textMode"] == "name":
            text = "\n".join(named(result, target) for result in results)
        elif panel["options"]["textMode"] == "value_and_name":
            text = f"{named(results[0], target)}:  {text}"
        for step in fields["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                color = COLORS[step["color"]]
    axes.axis("off")
    size = 24 if len(text) < 12 else 15
    axes.text(0.5, 0.4, text, color=color, size=size, ha="center", va="center", transform=axes.transAxes)


def fetch_lines(panel, prometheus, times):
    """Returns name and values of each line of a graph."""
    lines = []
    for target in panel["targets"]:
        parameters = {"start": times[0], "end": times[-1], "step": SCRAPE_INTERVAL}
        for result in prometheus.query("query_range", target["expr"], **parameters):
            values = {float(at): float(value) for at, value in result["values"]}
            lines.append((named(result, target), [values.get(at, float("nan")) for at in times]))
    return lines


def draw_graph(figure, box, panel, prometheus, end):
    """Draws a graph into a box, in pixels: left, bottom, width and height."""
    fields = panel["fieldConfig"]["defaults"]
    times = [end - SECONDS + SCRAPE_INTERVAL * step for step in range(SECONDS // SCRAPE_INTERVAL + 1)]
    lines = fetch_lines(panel, prometheus, times)
    left, bottom, width, height = box
    columns = max(1, int((width - 20) / (40 + 7.4 * max(len(name) for name, _ in lines)))) if lines else 1
    legend = 18 * math.ceil(len(lines) / columns) + 28
    pixels = figure.get_size_inches() * figure.dpi
    axes = figure.add_axes([(left + 80) / pixels[0], (bottom + legend) / pixels[1],
                            (width - 95) / pixels[0], (height - legend - 34) / pixels[1]])
    dates = [at / 86400 for at in times]
    if "stacking" in fields["custom"]:
        stacks = [[0 if math.isnan(value) else value for value in values] for _, values in lines]
        axes.stackplot(dates, stacks, colors=LINES, labels=[name for name, _ in lines], alpha=0.75)
    else:
        for (name, values), color in zip(lines, LINES):
            axes.plot(dates, values, color=color, label=name, linewidth=1.8)
    axes.set_facecolor(PANEL)
    axes.tick_params(colors=MUTED, labelsize=11, length=0)
    axes.grid(color="#2c2f35", linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(matplotlib.dates.MinuteLocator(interval=2))
    if "scaleDistribution" in fields["custom"]:
        axes.set_yscale("log")
        axes.minorticks_off()
    else:
        axes.yaxis.set_major_locator(plt.MaxNLocator(4))
        axes.set_ylim(bottom=0, top=fields.get("max"))
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, fields["unit"]))
    axes.set_xlim(dates[0], dates[-1])
    axes.legend(loc="lower left", bbox_to_anchor=(left + 8, bottom + 2), bbox_transform=IdentityTransform(),
                ncols=columns, frameon=False, labelcolor=TEXT, fontsize=10, borderaxespad=0, handlelength=0.8,
                columnspacing=1.2, handletextpad=0.4)


def draw(prometheus, end):
    """Draws the rows that are open, and the names of the others."""
    is_open = [panel for panel in DASHBOARD["panels"] if not panel.get("collapsed")]
    closed = [panel["title"] for panel in DASHBOARD["panels"] if panel.get("collapsed")]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in is_open) + 1
    width, height = 24 * CELL[0], rows * CELL[1]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACKGROUND)
    for panel in is_open:
        grid = panel["gridPos"]
        left, bottom = grid["x"] * CELL[0] + 4, height - (grid["y"] + grid["h"]) * CELL[1] + 4
        box = left, bottom, grid["w"] * CELL[0] - 8, grid["h"] * CELL[1] - 8
        title = {"x": (left + 8) / width, "y": (bottom + box[3] - 15) / height, "s": panel["title"], "color": TEXT}
        if panel["type"] == "row":
            figure.text(**title, size=14, weight="bold", va="center")
            continue
        relative = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
        figure.patches.append(plt.Rectangle(relative[:2], *relative[2:], color=PANEL, transform=figure.transFigure,
                                            zorder=-1))
        figure.text(**title, size=12, va="center")
        if panel["type"] == "stat":
            draw_stat(figure.add_axes(relative), panel, prometheus, end)
        else:
            draw_graph(figure, box, panel, prometheus, end)
    figure.text(12 / width, 12 / height, "Collapsed rows:  " + "  ·  ".join(closed), color=MUTED, size=12)
    image = FOLDER / "dashboard.png"
    figure.savefig(image, facecolor=BACKGROUND)
    # Half the size, with as many colours as it needs.
    Image.open(image).convert("RGB").quantize(128).save(ROOT / "docs/images/dashboard.png", optimize=True)


def main():
    postgres, control = os.environ["TEST_DATABASE_URL"], os.environ["TEST_POSTGRES_CTL"].split()
    instances = []
    for number in range(2):
        port = free_port()
        run(f"service{number}", [PROGRAM], port, PORT=port, HOST="127.0.0.1", DATABASE_URL=postgres, LOG_FORMAT="json",
            JWT_SECRET_KEY="0123456789abcdef" * 2, TRUSTED_PROXIES="127.0.0.1")
        instances.append(f"http://127.0.0.1:{port}")
    traffic = Traffic(instances)
    traffic.register()
    prometheus = Prometheus([instance.removeprefix("http://") for instance in instances])
    traffic.start()
    time.sleep(OUTAGE[0])
    subprocess.check_call([*control, "-m", "immediate", "stop"])
    time.sleep(OUTAGE[1] - OUTAGE[0])
    subprocess.check_call([*control, "start"])
    time.sleep(SECONDS - traffic.elapsed())
    eventually(lambda: prometheus.query("query", "up"))
    draw(prometheus, time.time() // SCRAPE_INTERVAL * SCRAPE_INTERVAL)
    return []


run_main(main, SECONDS + 120)
