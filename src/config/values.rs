//! Formats of single settings. Each function parses one value, or tells what it must be.

use std::fs;
use std::net::IpAddr;
use std::num::{NonZeroU32, TryFromIntError};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net};
use tracing_subscriber::filter::Targets;
use url::{Position, Url};

use super::settings::{ListenAddress, LogFormat, PoolMode, SigningAlgorithm};
use crate::domain::{Blocklist, MAX_ITERATIONS, MAX_LEEWAY, PasswordPolicy};

/// Least number of PBKDF2 iterations. Tests bypass this check. [`MAX_ITERATIONS`] is the greatest.
const MIN_ITERATIONS: u32 = 100_000;

/// Largest number of threads: more than any machine has cores.
const MAX_THREADS: usize = 1024;

pub(super) fn text(raw: &str) -> Result<String, String> {
    if raw.is_empty() { Err("must not be empty".to_owned()) } else { Ok(raw.to_owned()) }
}

/// Parses the address to listen on. An IPv6 address may have the brackets of a URL.
pub(super) fn host(raw: &str) -> Result<String, String> {
    text(without_brackets(raw.trim()))
}

pub(super) fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Parses the address of the second listener. An IPv6 address needs brackets, which tell it from the
/// port.
pub(super) fn listen_address(raw: &str) -> Result<Option<ListenAddress>, String> {
    if raw.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (host, port) = raw.trim().rsplit_once(':')?;
        let plain = without_brackets(host);
        if plain.is_empty() || (plain.contains(':') && plain == host) {
            return None;
        }
        Some(ListenAddress { host: plain.to_owned(), port: port.parse().ok()? })
    };
    let problem = || format!("must look like 127.0.0.1:5001 or [::1]:5001, not `{raw}`");
    parse().map(Some).ok_or_else(problem)
}

/// Parses one of two words, and returns whether it is the first.
pub(super) fn one_of(
    first: &'static str,
    second: &'static str,
) -> impl Fn(&str) -> Result<bool, String> {
    move |raw| {
        let is = |word: &str| raw.eq_ignore_ascii_case(word);
        if is(first) || is(second) {
            return Ok(is(first));
        }
        Err(format!("must be {first} or {second}, not `{raw}`"))
    }
}

/// Parses the URL of the service. An issuer has no query and no fragment (RFC 8414 section 2).
pub(super) fn public_url(raw: &str) -> Result<Option<String>, String> {
    if raw.is_empty() {
        return Ok(None);
    }
    let url = raw.trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_plain = |rest: &str| {
        rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\"\\<>".contains(&byte))
    };
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && is_plain(rest) => {
            Ok(Some(url.to_owned()))
        }
        _ => Err(format!("must look like https://auth.example.com, not `{raw}`")),
    }
}

/// Parses audiences separated by commas.
pub(super) fn audience(raw: &str) -> Result<Vec<String>, String> {
    let names = raw.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
            let problem = || format!("must be names without spaces, not `{name}`");
            if is_plain && name != "." { Ok(name.to_owned()) } else { Err(problem()) }
        })
        .collect()
}

pub(super) fn algorithm(raw: &str) -> Result<SigningAlgorithm, String> {
    SigningAlgorithm::from_str(raw, true).map_err(|_| "must be ES256 or HS256".to_owned())
}

pub(super) fn number<T: FromStr>(raw: &str) -> Result<T, String> {
    raw.parse().map_err(|_| format!("must be a whole number in range, not `{raw}`"))
}

pub(super) fn at_least(least: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |raw| match number(raw)? {
        value if value < least => Err(format!("must be at least {least}, not {value}")),
        value => Ok(value),
    }
}

pub(super) fn at_most(most: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |raw| match number(raw)? {
        value if value > most => Err(format!("must be at most {most}, not {value}")),
        value => Ok(value),
    }
}

pub(super) fn iterations(raw: &str) -> Result<NonZeroU32, String> {
    at_least(MIN_ITERATIONS)(raw)?;
    let count = at_most(MAX_ITERATIONS)(raw)?;
    count.try_into().map_err(|error: TryFromIntError| error.to_string())
}

/// Parses the minimum length of a password.
pub(super) fn password_length(raw: &str) -> Result<usize, String> {
    let range = PasswordPolicy::LEAST_MIN_LENGTH..=PasswordPolicy::GREATEST_MIN_LENGTH;
    match number(raw)? {
        length if range.contains(&length) => Ok(length),
        length => Err(format!("must be from {} to {}, not {length}", range.start(), range.end())),
    }
}

/// Reads the words that are refused as passwords.
pub(super) fn blocklist(raw: &str) -> Result<Option<Blocklist>, String> {
    match raw {
        "none" => Ok(None),
        "common" => Ok(Some(Blocklist::common())),
        path => {
            let text = fs::read_to_string(path).map_err(|error| {
                format!("must be none, common or a file of words: `{path}` cannot be read: {error}")
            })?;
            let blocklist = Blocklist::from_lines(&text);
            if blocklist.is_empty() {
                return Err(format!("names `{path}`, a file without words"));
            }
            Ok(Some(blocklist))
        }
    }
}

/// Parses a number of MiB, at most 65,535, and returns it in bytes.
pub(super) fn mebibytes(raw: &str) -> Result<usize, String> {
    number::<u16>(raw).map(|mebibytes| usize::from(mebibytes).saturating_mul(1024 * 1024))
}

pub(super) fn seconds(raw: &str) -> Result<Duration, String> {
    number::<u32>(raw).map(|seconds| Duration::from_secs(seconds.into()))
}

pub(super) fn positive_seconds(raw: &str) -> Result<Duration, String> {
    at_least(1)(raw).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Parses a duration; 0 means no limit.
pub(super) fn seconds_or_unlimited(raw: &str) -> Result<Option<Duration>, String> {
    let duration = seconds(raw)?;
    Ok(if duration.is_zero() { None } else { Some(duration) })
}

/// Parses a leeway. It is bounded, since revocations have to outlive it on every instance.
pub(super) fn leeway(raw: &str) -> Result<Duration, String> {
    match seconds(raw)? {
        leeway if leeway > MAX_LEEWAY => {
            Err(format!("must be at most {}, not {}", MAX_LEEWAY.as_secs(), leeway.as_secs()))
        }
        leeway => Ok(leeway),
    }
}

/// Parses a number of threads; 0 means one per core.
pub(super) fn threads(raw: &str) -> Result<usize, String> {
    match number(raw)? {
        0 => Ok(thread::available_parallelism().map_or(1, Into::into)),
        count if count > MAX_THREADS => Err(format!("must be at most {MAX_THREADS}, not {count}")),
        count => Ok(count),
    }
}

/// Parses networks separated by commas. A plain address is a network of one address.
pub(super) fn networks(raw: &str) -> Result<Vec<IpNet>, String> {
    raw.split(',').map(str::trim).filter(|text| !text.is_empty()).map(network).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => {
            text.parse().map_err(|_| format!("must be networks like 10.0.0.0/8, not `{text}`"))?
        }
    };
    Ok(unmapped(network))
}

/// Returns the IPv4 network that an IPv4-mapped one (::ffff:10.0.0.0/104) stands for: addresses are
/// compared in this form.
fn unmapped(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => {
            network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96))
        }
        IpNet::V4(_) => None,
    };
    let unmapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    unmapped.map_or(network, IpNet::V4)
}

/// Parses origins separated by commas (<https://html.spec.whatwg.org/#concept-origin>). Browsers
/// send them in one form, and every other would never match.
pub(super) fn origins(raw: &str) -> Result<Vec<String>, String> {
    raw.split(',').map(str::trim).filter(|text| !text.is_empty()).map(origin).collect()
}

fn origin(text: &str) -> Result<String, String> {
    let is_origin = |url: &Url| url.has_host() && &url[..Position::AfterPort] == text;
    match Url::parse(text) {
        Ok(url) if is_origin(&url) && !text.contains(['*', '@']) => Ok(text.to_owned()),
        _ => Err(format!(
            "must be origins as browsers send them, like https://app.example.com, not `{text}`"
        )),
    }
}

pub(super) fn pool_mode(raw: &str) -> Result<PoolMode, String> {
    PoolMode::from_str(raw, true).map_err(|_| "must be session or transaction".to_owned())
}

pub(super) fn log_format(raw: &str) -> Result<LogFormat, String> {
    LogFormat::from_str(raw, true).map_err(|_| "must be auto, json or pretty".to_owned())
}

pub(super) fn log_filter(raw: &str) -> Result<Targets, String> {
    raw.parse().map_err(|error| format!("must be a log filter: {error}"))
}
