//! From where a request comes.

use std::future::{Ready, ready};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::dev::Payload;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderValue, USER_AGENT, X_FORWARDED_FOR};
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpRequest};
use ipnet::IpNet;

use super::Api;
use crate::domain::{Client, UserAgent};

/// Add this as a parameter to a handler to know from where its request comes.
impl FromRequest for Client {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let peer = request.peer_addr().map_or(nowhere, |peer| peer.ip());
        let trusted = request.app_data::<Data<Api>>().map(|api| api.trusted_proxies.as_slice());
        let address = address_of(peer, trusted.unwrap_or_default(), request.headers());
        let user_agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes);
        let user_agent = String::from_utf8_lossy(user_agent.unwrap_or_default());
        ready(Ok(Self { address, user_agent: UserAgent::clean(&user_agent) }))
    }
}

/// Follows the proxies back, for as long as each is trusted to say truly who spoke to it.
fn address_of(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.to_canonical();
    let mut said = forwarded_for(headers).into_iter().rev();
    while is_trusted(&address) {
        match said.next().flatten() {
            Some(before) => address = before,
            None => break,
        }
    }
    address
}

/// Lists who is said to have spoken to each proxy, the nearest one last. Where one names no address,
/// nothing that was said before it counts.
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    if headers.contains_key(X_FORWARDED_FOR) {
        return elements(headers.get_all(X_FORWARDED_FOR)).map(node).collect();
    }
    elements(headers.get_all(FORWARDED)).map(|element| node(forwarded_node(element)?)).collect()
}

fn elements<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a str> {
    values.flat_map(|value| split_outside_quotes(value.to_str().unwrap_or_default(), ','))
}

/// Splits a text where a separator is none of a quoted string (RFC 9110 section 5.6.4): what a proxy
/// quotes, such as a `host`, is the words of a stranger.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_literal = mem::take(&mut is_escaped);
        match c {
            _ if is_literal => false,
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

/// Reads the node of `for=` (RFC 7239 section 4), whose name may be in any case.
fn forwarded_node(element: &str) -> Option<&str> {
    split_outside_quotes(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        name.trim().eq_ignore_ascii_case("for").then_some(inner.unwrap_or(value))
    })
}

/// Reads an address, which may have a port, and brackets if it is of version 6.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|at: SocketAddr| at.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// Reads the address of a request that came from 10.0.0.1, with 10.0.0.0/8 trusted.
    fn seen_through(headers: &[(&'static str, &str)]) -> String {
        let request = headers
            .iter()
            .fold(TestRequest::default(), |request, header| request.append_header(*header))
            .to_http_request();
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        address_of("10.0.0.1".parse().unwrap(), &trusted, request.headers()).to_string()
    }

    #[test]
    fn the_client_is_the_last_whom_no_trusted_proxy_is() {
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
            assert_eq!(seen_through(headers), address, "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_address_hides_everything_before_it() {
        for said in ["6.6.6.6, unknown", "6.6.6.6,", "6.6.6.6, _hidden", ""] {
            assert_eq!(seen_through(&[("x-forwarded-for", said)]), "10.0.0.1", "{said}");
        }
        assert_eq!(seen_through(&[("x-forwarded-for", "6.6.6.6, unknown, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(seen_through(&[("forwarded", "for=6.6.6.6, proto=http")]), "10.0.0.1");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let request = TestRequest::default().append_header(("x-forwarded-for", "192.0.2.7"));
        let headers = request.to_http_request();
        let peer = "203.0.113.9".parse().unwrap();
        assert_eq!(address_of(peer, &[], headers.headers()), peer);
    }
}
