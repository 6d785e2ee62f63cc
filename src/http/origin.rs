//! The extractor of [`RequestOrigin`]: the address and user agent that a request came from.

use std::future::{Ready, ready};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::dev::Payload;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderValue, USER_AGENT, X_FORWARDED_FOR};
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpRequest};
use ipnet::IpNet;

use super::state::Api;
use crate::domain::{RequestOrigin, UserAgent};

/// Add this as a parameter to a handler to get the origin of its request.
impl FromRequest for RequestOrigin {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let peer = request.peer_addr().map_or(unknown, |peer| peer.ip());
        let trusted_proxies = match request.app_data::<Data<Api>>() {
            Some(api) => api.trusted_proxies.as_slice(),
            None => &[],
        };
        ready(Ok(Self {
            address: origin_address(peer, trusted_proxies, request.headers()),
            user_agent: user_agent(request.headers()),
        }))
    }
}

fn user_agent(headers: &HeaderMap) -> UserAgent {
    let bytes = headers.get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
    UserAgent::sanitize(&String::from_utf8_lossy(bytes))
}

/// Returns the address that a request came from. Each trusted proxy, starting with the peer,
/// reports the one before it; the first address that is not a trusted proxy is the origin.
fn origin_address(peer: IpAddr, trusted_proxies: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let is_trusted =
        |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut address = peer.to_canonical();
    let mut reported = reported_addresses(headers).into_iter().rev();
    while is_trusted(&address) {
        match reported.next().flatten() {
            Some(previous) => address = previous,
            None => break,
        }
    }
    address
}

/// Parses the addresses that the proxies reported, the nearest one last. `None` stands for an
/// element without an address; the elements before it cannot be trusted.
fn reported_addresses(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    if headers.contains_key(X_FORWARDED_FOR) {
        list_elements(headers.get_all(X_FORWARDED_FOR)).map(parse_address).collect()
    } else {
        list_elements(headers.get_all(FORWARDED))
            .map(|element| parse_address(forwarded_for(element)?))
            .collect()
    }
}

/// Splits the values of a list header into elements (RFC 9110 section 5.6.1).
fn list_elements<'a>(
    values: impl Iterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = &'a str> {
    values.flat_map(|value| split_outside_quotes(value.to_str().unwrap_or_default(), ','))
}

/// Splits a text at separators that are outside quoted strings (RFC 9110 section 5.6.4). A proxy
/// may quote text that its peer chose, such as `host`; a separator in it must not start an element.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |c| {
        if mem::take(&mut is_escaped) {
            return false;
        }
        match c {
            '"' => {
                is_quoted = !is_quoted;
                false
            }
            '\\' if is_quoted => {
                is_escaped = true;
                false
            }
            c => c == separator && !is_quoted,
        }
    })
}

/// Returns the value of `for` in an element of `Forwarded` (RFC 7239 section 4). Parameter names
/// are case-insensitive.
fn forwarded_for(element: &str) -> Option<&str> {
    split_outside_quotes(element, ';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_for = name.trim().eq_ignore_ascii_case("for");
        is_for.then(|| strip_both(value.trim(), '"', '"'))
    })
}

/// Parses an IP address, optionally with a port. An IPv6 address may have brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let without_brackets = strip_both(text, '[', ']');
    let address: Result<IpAddr, _> = without_brackets
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Removes a prefix and a suffix if both are present.
fn strip_both(text: &str, prefix: char, suffix: char) -> &str {
    text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// Returns the origin of a request whose peer is 10.0.0.1, with 10.0.0.0/8 trusted.
    fn origin(headers: &[(&'static str, &str)]) -> String {
        let request = headers
            .iter()
            .fold(TestRequest::default(), |request, header| request.append_header(*header))
            .to_http_request();
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        origin_address("10.0.0.1".parse().unwrap(), &trusted, request.headers()).to_string()
    }

    #[test]
    fn origin_is_the_nearest_address_that_is_not_a_trusted_proxy() {
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[], "10.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "6.6.6.6, 192.0.2.7 , 10.0.0.2")], "192.0.2.7"),
            (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            (&[("x-forwarded-for", "[2001:db8::7]:4711")], "2001:db8::7"),
            (&[("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", r#"for=6.6.6.6, proto=http;For="[2001:db8::7]""#)], "2001:db8::7"),
            (&[("forwarded", r#"for=192.0.2.7;host="x,for=6.6.6.6""#)], "192.0.2.7"),
            (&[("forwarded", r#"host="x;for=6.6.6.6";for=192.0.2.7"#)], "192.0.2.7"),
            (&[("forwarded", r#"host="\",for=6.6.6.6";for=192.0.2.7"#)], "192.0.2.7"),
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.7:80")], "192.0.2.7"),
        ];
        for (headers, address) in cases {
            assert_eq!(origin(headers), address, "{headers:?}");
        }
    }

    #[test]
    fn element_without_address_hides_the_elements_before_it() {
        for reported in ["6.6.6.6, unknown", "6.6.6.6,", "6.6.6.6, _hidden", ""] {
            assert_eq!(origin(&[("x-forwarded-for", reported)]), "10.0.0.1", "{reported}");
        }
        assert_eq!(origin(&[("x-forwarded-for", "6.6.6.6, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(origin(&[("forwarded", "for=6.6.6.6, proto=http")]), "10.0.0.1");
    }

    #[test]
    fn untrusted_peer_cannot_report_an_address() {
        let request = TestRequest::default().append_header(("x-forwarded-for", "192.0.2.7"));
        let request = request.to_http_request();
        let peer = "203.0.113.9".parse().unwrap();
        assert_eq!(origin_address(peer, &[], request.headers()), peer);
    }
}
