"""Checks of access tokens, and what gateways and verifiers ask: processor time of each, and how many a second."""

from load import CLIENTS, check, load, write
from report import alternate, compare, report
from service import CHEAP, CLIENT_CORE, SERVER_CORE, bare, insert_revocations, new_client, new_database, portcullis
from tokens import CHECKED, checked, copies

REVOCATIONS = 1_000_000
CHECK, KEYS = "/auth/check?permission=dashboard:read", "/.well-known/jwks.json"


def checks():
    """Measures checks over a bare handler, and with revocations held."""
    database = new_database()
    empty = portcullis(database, SERVER_CORE)
    empty.register()
    tokens = checked(empty.log_in()["access_token"])
    crowded = new_database()
    portcullis(crowded).stop()
    insert_revocations(crowded, REVOCATIONS)
    full, control = portcullis(crowded, SERVER_CORE), bare(SERVER_CORE)
    rounds = alternate(bare=lambda: check(control, tokens, core=CLIENT_CORE),
                       empty=lambda: check(empty, tokens, core=CLIENT_CORE),
                       full=lambda: check(full, tokens, core=CLIENT_CORE))
    compare("processor time of a checked request over a bare handler's", rounds, "empty", "bare", "cpu_us", 1.2, 1.1)
    compare("checked requests a second over a bare handler's", rounds, "empty", "bare", "per_second", 0.85, 0.93)
    compare("with 1,000,000 revocations over with none", rounds, "full", "empty", "per_second", 0.97, 0.99)
    for service in [full, empty, control]:
        service.stop()

    shared, control = portcullis(database), bare()
    rounds = alternate(bare=lambda: check(control, tokens), shared=lambda: check(shared, tokens))
    compare("processor time of a checked request over a bare handler's, shared cores", rounds, "shared", "bare", "cpu_us", 1.2, 1.1)
    for service in [shared, control]:
        service.stop()


def gateways():
    """Measures `/auth/check` over a bare handler with the same reply, and introspection, beside the dashboard."""
    database = new_database()
    service, control = portcullis(database, SERVER_CORE), bare(SERVER_CORE)
    service.register()
    tokens = copies(service.log_in()["access_token"])
    asked = write("asked", [new_client(database, "tokens:introspect"), *tokens])
    tokens = write("checked", tokens)
    rounds = alternate(bare=lambda: check(control, tokens, CHECK, CLIENT_CORE),
                       door=lambda: check(service, tokens, CHECK, CLIENT_CORE),
                       introspection=lambda: load(service, "/oauth/introspect", "introspect", asked, CLIENT_CORE),
                       dashboard=lambda: check(service, tokens, core=CLIENT_CORE))
    compare("processor time of /auth/check over a bare handler's", rounds, "door", "bare", "cpu_us", 1.30, 1.15)
    compare("/auth/check a second over the dashboard", rounds, "door", "dashboard", "per_second", 0.95, 1.0)
    compare("introspections a second over the dashboard", rounds, "introspection", "dashboard", "per_second", 0.5, 0.7)
    for one in [service, control]:
        one.stop()


def signatures():
    """Measures the cost of ES256 with the tokens of real logins, and requests for its public keys."""
    services = {}
    for algorithm in ["HS256", "ES256"]:
        service = portcullis(new_database(), SERVER_CORE, JWT_ALGORITHM=algorithm, PBKDF2_ITERATIONS=str(CHEAP))
        service.register()
        tokens = [service.log_in()["access_token"] for _ in range(CHECKED)]
        services[algorithm] = service, write(f"checked_{algorithm}", tokens)

    def checks_with(algorithm):
        service, tokens = services[algorithm]
        return lambda: check(service, tokens, core=CLIENT_CORE)

    rounds = alternate(es256=checks_with("ES256"), hs256=checks_with("HS256"))
    compare("processor time of a checked request, ES256 over HS256", rounds, "es256", "hs256", "cpu_us", 1.1, 1.05)

    def refreshes_with(algorithm):
        def measure():
            service, _ = services[algorithm]
            tokens = write("tokens", [service.log_in()["refresh_token"] for _ in range(CLIENTS + 8)])
            return load(service, "/auth/refresh", "refresh", tokens, CLIENT_CORE)
        return measure

    rounds = alternate(es256=refreshes_with("ES256"), hs256=refreshes_with("HS256"))
    compare("refreshes a second, ES256 over HS256", rounds, "es256", "hs256", "per_second", 0.8, 0.9)
    report("processor time of a refresh, ES256", "µs", [one["es256"]["cpu_us"] for one in rounds])

    (service, tokens), control = services["ES256"], bare(SERVER_CORE)
    rounds = alternate(bare=lambda: check(control, tokens, KEYS, CLIENT_CORE),
                       keys=lambda: check(service, tokens, KEYS, CLIENT_CORE))
    compare("requests for the public keys (JWKS) a second over a bare handler's", rounds, "keys", "bare", "per_second")
    control.stop()
    for service, _ in services.values():
        service.stop()
