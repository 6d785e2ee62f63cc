//! Formats of single settings. Each function parses one value, or tells what it must be.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::num::{NonZeroU32, TryFromIntError};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tracing_subscriber::filter::Targets;
use url::{Position, Url};

use super::names::nearest;
use super::settings::ListenAddress;
use crate::domain::{Blocklist, MAX_ITERATIONS, MAX_LEEWAY};

/// Least number of PBKDF2 iterations. Tests bypass this check. [`MAX_ITERATIONS`] is the greatest.
const MIN_ITERATIONS: u32 = 100_000;

/// Largest number of threads: more than any machine has cores.
const MAX_THREADS: usize = 1024;

/// Units of durations, with their seconds, from the largest on.
const UNITS: &[(&str, u64)] = &[("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];

/// Longest duration: 49,710 days, about 136 years.
const LONGEST: Duration = Duration::from_hours(24 * 49_710);

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

/// Parses one of a few words, ignoring case.
pub(super) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |raw| {
        let found = words.iter().find(|(word, _)| raw.eq_ignore_ascii_case(word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let hint = nearest(raw, words.iter().copied());
            let hint = hint.map(|word| format!("; did you mean {word}?")).unwrap_or_default();
            format!("must be {}, not `{raw}`{hint}", alternatives(&words))
        })
    }
}

fn alternatives(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.concat(),
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
        // A password may be before it.
        _ if raw.contains('@') => Err("must look like https://auth.example.com, without @".into()),
        _ => Err(format!("must look like https://auth.example.com, not `{raw}`")),
    }
}

/// Parses audiences separated by commas.
pub(super) fn audience(raw: &str) -> Result<Vec<String>, String> {
    let names = raw.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
            let problem =
                || format!("must be names without spaces, separated by commas, not `{name}`");
            if is_plain && name != "." { Ok(name.to_owned()) } else { Err(problem()) }
        })
        .collect()
}

/// Parses a whole number in a range, and says what it counts.
pub(super) fn number<T: FromStr + PartialOrd + Copy + fmt::Display>(
    range: RangeInclusive<T>,
    unit: &'static str,
) -> impl Fn(&str) -> Result<T, String> {
    move |raw| match unsigned(raw.trim()) {
        Some(value) if range.contains(&value) => Ok(value),
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(format!("must be a whole number of {unit} from {least} to {most}, not `{raw}`"))
        }
    }
}

/// Parses a number of digits alone, without a sign.
fn unsigned<T: FromStr>(text: &str) -> Option<T> {
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn port(raw: &str) -> Result<u16, String> {
    raw.trim().parse().map_err(|_| format!("must be a port from 0 to 65535, not `{raw}`"))
}

/// Parses a number of things of which there is at least one.
pub(super) fn count(unit: &'static str) -> impl Fn(&str) -> Result<u32, String> {
    number(1..=u32::MAX, unit)
}

pub(super) fn iterations(raw: &str) -> Result<NonZeroU32, String> {
    let count = number(MIN_ITERATIONS..=MAX_ITERATIONS, "iterations")(raw)?;
    count.try_into().map_err(|error: TryFromIntError| error.to_string())
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

/// Parses a number of MiB, and returns it in bytes.
pub(super) fn mebibytes(raw: &str) -> Result<usize, String> {
    let mebibytes = number(0..=u16::MAX, "MiB")(raw)?;
    Ok(usize::from(mebibytes).saturating_mul(1024 * 1024))
}

/// Parses a duration, which may be zero.
pub(super) fn duration(raw: &str) -> Result<Duration, String> {
    duration_in(Duration::ZERO..=LONGEST)(raw)
}

pub(super) fn positive_duration(raw: &str) -> Result<Duration, String> {
    duration_in(Duration::from_secs(1)..=LONGEST)(raw)
}

/// Parses a wait for a connection. SQLite counts the milliseconds in 31 bits.
pub(super) fn acquire_timeout(raw: &str) -> Result<Duration, String> {
    duration_in(Duration::from_secs(1)..=Duration::from_hours(1))(raw)
}

/// Parses a duration; 0 means no limit.
pub(super) fn duration_or_unlimited(raw: &str) -> Result<Option<Duration>, String> {
    let duration = duration(raw)?;
    Ok(if duration.is_zero() { None } else { Some(duration) })
}

/// Parses a leeway. It is bounded, since revocations have to outlive it on every instance.
pub(super) fn leeway(raw: &str) -> Result<Duration, String> {
    duration_in(Duration::ZERO..=MAX_LEEWAY)(raw)
}

fn duration_in(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |raw| {
        let duration = parse_duration(raw.trim()).filter(|duration| range.contains(duration));
        duration.ok_or_else(|| {
            let (least, most) = (human_duration(*range.start()), human_duration(*range.end()));
            format!(
                "must be a duration from {least} to {most} in whole seconds, minutes, hours or \
                 days, not `{raw}`"
            )
        })
    }
}

/// Parses a whole number of seconds, or of the unit after it.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[digits.len()..];
    let (_, seconds_of_unit) = match unit {
        "" => ("", 1),
        _ => *UNITS.iter().find(|(name, _)| *name == unit)?,
    };
    let seconds = unsigned::<u64>(digits)?.checked_mul(seconds_of_unit)?;
    Some(Duration::from_secs(seconds))
}

/// Writes a duration as the settings do, in the largest unit that divides it: `15m`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let divides = |(_, unit): &&(&str, u64)| seconds > 0 && seconds.is_multiple_of(*unit);
    match UNITS.iter().find(divides) {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => "0".to_owned(),
    }
}

/// Parses a number of threads; 0 means one per core.
pub(super) fn threads(raw: &str) -> Result<usize, String> {
    match number(0..=MAX_THREADS, "threads")(raw)? {
        0 => Ok(thread::available_parallelism().map_or(1, Into::into)),
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
        Err(_) => text.parse().map_err(|_| {
            format!(
                "must be networks like 10.0.0.0/8 or addresses, separated by commas, not `{text}`"
            )
        })?,
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

pub(super) fn log_filter(raw: &str) -> Result<Targets, String> {
    raw.parse().map_err(|error| {
        format!("must be a log filter like info,portcullis=debug, not `{raw}`: {error}")
    })
}
