"""The revocation feed: what verifiers that wait at it cost, and how soon they learn of a logout."""

import subprocess
from functools import partial

from load import LOGOUTS_A_SECOND, SECONDS, log_out
from report import alternate, report
from service import TARGET, delays, folder, new_client, new_database, portcullis
from tokens import to_end

RECEIVERS = TARGET / "release/examples/receivers"
DELIVERED = 'portcullis_receiver_replies_total{kind="incremental"}'


def feed():
    database = new_database()
    service = portcullis(database)
    service.register()
    token = service.log_in()["access_token"]
    credentials = new_client(database, "revocations:read")

    def logouts():
        """Ends sessions, and returns the processor time of the service for it."""
        tokens = to_end(database, token, LOGOUTS_A_SECOND * SECONDS)
        before = service.cpu_seconds()
        log_out(service, tokens)
        return service.cpu_seconds() - before

    def followed_by(count):
        command = [RECEIVERS, service.address, credentials, str(count), str(SECONDS + 3)]
        with (folder / "arrivals").open("w") as output:
            receivers = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        assert receivers.stderr.readline() == "ready\n"
        before = service.count(DELIVERED)
        cpu = logouts()
        deliveries = service.count(DELIVERED) - before
        assert receivers.wait() == 0
        delayed = delays(database, arrivals())
        assert len(delayed) == count * LOGOUTS_A_SECOND * SECONDS
        return {"cpu": cpu, "deliveries": deliveries, "p50": delayed[len(delayed) // 2], "p99": delayed[len(delayed) * 99 // 100]}

    rounds = alternate(alone=logouts, few=partial(followed_by, 100), many=partial(followed_by, 1_000))
    for key, name in [("few", "100 verifiers"), ("many", "1,000 verifiers")]:
        for percentile in ["p50", "p99"]:
            report(f"logout to its arrival at {name}, {percentile}", "ms", [one[key][percentile] for one in rounds])
        each = [(one[key]["cpu"] - one["alone"]) / one[key]["deliveries"] * 1e6 for one in rounds]
        report(f"processor time of a delivery to {name}", "µs", each)
    service.stop()


def arrivals():
    """Reads the output of the receivers."""
    for line in (folder / "arrivals").read_text().splitlines():
        id, at = line.split()
        yield id, float(at)
