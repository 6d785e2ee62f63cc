//! Checks of what the settings open to networks, and to those who guess.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::finding::Finding;
use crate::config::{
    Config, NetworkSettings, Rate, SigningAlgorithm, ThrottleSettings, human_duration,
};

/// Longest life of an access token that is no finding.
const LONG_LIFE: Duration = Duration::from_hours(24);

/// Shortest prefix of a trusted IPv4 network that is no finding: that of 10.0.0.0/8.
const SHORTEST_IPV4_PREFIX: u8 = 8;

/// Shortest prefix of a trusted IPv6 network that is no finding: that of fc00::/7.
const SHORTEST_IPV6_PREFIX: u8 = 7;

/// Checks the settings. What is only reachable on this machine is no finding.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        proxies(config),
        public_url(config),
        management(config),
        docs(config),
        cors(config),
        login_limits(config),
        token_lifetime(config),
        algorithm(config),
    ];
    if is_exposed(config) {
        findings.extend([registration(config), blocklist(config), audience(config)]);
    } else {
        let message = "the service is for this machine, so registration, passwords and audiences \
                       are not judged";
        findings.push(Finding::ok("exposure.local", message));
    }
    findings
}

/// Returns `true` if others than this machine reach the service, directly or through a proxy.
pub(super) fn is_exposed(config: &Config) -> bool {
    let is_remote = |url: &String| !url_is_local(url);
    !config.http.address.is_loopback()
        || !config.http.trusted_proxies.is_empty()
        || config.public_url.as_ref().is_some_and(is_remote)
}

fn url_is_local(url: &str) -> bool {
    let url = Url::parse(url).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn proxies(config: &Config) -> Finding {
    const CHECK: &str = "exposure.proxies";
    let networks = &config.http.trusted_proxies;
    let is_wide = |network: &&IpNet| match network {
        IpNet::V4(network) => network.prefix_len() < SHORTEST_IPV4_PREFIX,
        IpNet::V6(network) => network.prefix_len() < SHORTEST_IPV6_PREFIX,
    };
    if let Some(network) = networks.iter().find(is_wide) {
        return Finding::warning(
            CHECK,
            format!("TRUSTED_PROXIES has {network}: every client in it can claim any address"),
            "name the proxies and nothing else (docs/reverse-proxy.md#addresses-of-clients)",
        );
    }
    if networks.is_empty() && is_exposed(config) {
        return Finding::warning(
            CHECK,
            "TRUSTED_PROXIES is not set: behind a proxy all clients count as one network, and \
             without a proxy nothing encrypts passwords and tokens",
            "put a proxy with TLS in front, and name it there \
             (docs/reverse-proxy.md#addresses-of-clients)",
        );
    }
    Finding::ok(CHECK, format!("trusted proxies: {}", networks.len()))
}

fn public_url(config: &Config) -> Finding {
    const CHECK: &str = "exposure.public_url";
    match &config.public_url {
        None if is_exposed(config) => Finding::warning(
            CHECK,
            "PUBLIC_URL is not set: the issuer is `portcullis`, and there is no metadata document",
            "set it to the URL that clients use (docs/settings.md)",
        ),
        None => Finding::ok(CHECK, "the issuer is `portcullis`"),
        Some(url) if !url.starts_with("https://") && !url_is_local(url) => Finding::warning(
            CHECK,
            format!(
                "PUBLIC_URL is {url}: without https, the network can read passwords and tokens"
            ),
            "put a proxy with TLS in front (docs/reverse-proxy.md#tls)",
        ),
        Some(url) => Finding::ok(CHECK, format!("clients reach the service at {url}")),
    }
}

fn management(config: &Config) -> Finding {
    const CHECK: &str = "exposure.management";
    let Some(address) = &config.http.management_address else {
        if !is_exposed(config) {
            return Finding::ok(CHECK, "administration and metrics are for this machine");
        }
        return Finding::warning(
            CHECK,
            "administration, metrics and probes are on the public port",
            "set MANAGEMENT_ADDRESS (docs/reverse-proxy.md#two-listeners)",
        );
    };
    let is_internal = match address.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local()
        }
        // The network that a name belongs to is unknown.
        Err(_) => true,
    };
    if is_internal {
        return Finding::ok(CHECK, "administration and metrics have an address of their own");
    }
    Finding::warning(
        CHECK,
        format!("MANAGEMENT_ADDRESS is on {}, which other networks may reach", address.host),
        "see to it that only operators reach the port: published ports of a container and firewalls \
         cannot be seen from here (docs/reverse-proxy.md#two-listeners)",
    )
}

fn docs(config: &Config) -> Finding {
    const CHECK: &str = "exposure.docs";
    let http = &config.http;
    if http.serves_docs && http.management_address.is_none() && is_exposed(config) {
        return Finding::warning(
            CHECK,
            "the documentation is public",
            "set DOCS=off or MANAGEMENT_ADDRESS (docs/reverse-proxy.md#two-listeners)",
        );
    }
    Finding::ok(CHECK, "the documentation is not public")
}

fn cors(config: &Config) -> Finding {
    const CHECK: &str = "exposure.cors";
    let is_plain = |origin: &&String| origin.starts_with("http://") && !url_is_local(origin);
    let plain: Vec<_> =
        config.http.cors_allowed_origins.iter().filter(is_plain).map(String::as_str).collect();
    if plain.is_empty() {
        return Finding::ok(CHECK, "no origin without https is allowed");
    }
    Finding::warning(
        CHECK,
        format!("CORS_ALLOWED_ORIGINS has {}, which any network can impersonate", plain.join(", ")),
        "use https there (docs/reverse-proxy.md#tls)",
    )
}

/// Names the limits of guessing that are looser than the defaults.
fn login_limits(config: &Config) -> Finding {
    const CHECK: &str = "exposure.login_limits";
    let ThrottleSettings { login, session } = config.throttle;
    let NetworkSettings { failed_names, registrations } = config.networks;
    let is_looser = |rate: Option<Rate>, burst: u32, seconds: u64| {
        rate.is_none_or(|rate| rate.burst > burst || rate.interval < Duration::from_secs(seconds))
    };
    let looser: Vec<_> = [
        ("LOGIN_FREE_FAILURES", login.free > 5),
        ("LOGIN_MAX_FAILURES", login.max > 100),
        ("SESSION_MAX_FAILURES", session.max > 10),
        ("LOGIN_NETWORK_BURST and LOGIN_NETWORK_INTERVAL", is_looser(failed_names, 20, 10)),
        (
            "REGISTRATION_NETWORK_BURST and REGISTRATION_NETWORK_INTERVAL",
            is_looser(registrations, 10, 60),
        ),
    ]
    .into_iter()
    .filter_map(|(name, is_looser)| is_looser.then_some(name))
    .collect();
    if looser.is_empty() {
        return Finding::ok(CHECK, "guessing is limited as by default, or more");
    }
    Finding::warning(
        CHECK,
        format!("looser than the defaults: {}", looser.join(", ")),
        "leave them at the defaults, unless the number of users behind one address needs it \
         (docs/guessing.md#the-pace-of-an-account)",
    )
}

fn token_lifetime(config: &Config) -> Finding {
    const CHECK: &str = "exposure.token_lifetime";
    let message = format!("access tokens live for {}", human_duration(config.tokens.lifetime));
    if config.tokens.lifetime <= LONG_LIFE {
        return Finding::ok(CHECK, message);
    }
    let message = format!("{message}, and so do stolen ones with verifiers that know no logouts");
    let advice = "shorten JWT_ACCESS_TOKEN_EXPIRES: refresh tokens keep users logged in \
                  (docs/protect-your-api.md#after-a-logout)";
    Finding::warning(CHECK, message, advice)
}

fn algorithm(config: &Config) -> Finding {
    const CHECK: &str = "exposure.algorithm";
    if config.keys.algorithm == SigningAlgorithm::Es256 {
        return Finding::ok(CHECK, "verifiers need only public keys");
    }
    Finding::warning(
        CHECK,
        "JWT_ALGORITHM is HS256: every verifier has the secret, and can sign tokens of any user",
        "change to ES256 (docs/keys.md#hs256-one-secret-instead-of-key-pairs)",
    )
}

fn registration(config: &Config) -> Finding {
    const CHECK: &str = "exposure.registration";
    if !config.is_registration_open {
        return Finding::ok(CHECK, "administrators create the accounts");
    }
    Finding::warning(
        CHECK,
        "everyone who reaches the service can register an account",
        "set REGISTRATION=closed, unless this is meant (docs/settings.md)",
    )
}

fn blocklist(config: &Config) -> Finding {
    const CHECK: &str = "exposure.passwords";
    if config.passwords.has_blocklist() {
        return Finding::ok(CHECK, "common passwords are refused");
    }
    Finding::warning(
        CHECK,
        "the most common passwords are accepted",
        "set PASSWORD_BLOCKLIST=common (docs/operations.md#passwords)",
    )
}

fn audience(config: &Config) -> Finding {
    const CHECK: &str = "exposure.audience";
    let tokens = &config.tokens;
    if tokens.audience.names(&tokens.issuer).count() > 1 {
        return Finding::ok(CHECK, "tokens name the APIs that they are for");
    }
    Finding::warning(
        CHECK,
        "JWT_AUDIENCE is not set: tokens are for this service alone, and an API that verifies them \
         offline cannot tell that they are for it",
        "set it to the names of your APIs (docs/keys.md#tokens-for-some-of-the-apis)",
    )
}
