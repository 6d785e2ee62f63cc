//! From where a request comes.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderValue, USER_AGENT};

use crate::domain::{Client, UserAgent};

/// Tells from where a request comes.
pub(super) fn client_of(request: &HttpRequest) -> Client {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let address = request.peer_addr().map_or(nowhere, |peer| peer.ip().to_canonical());
    let user_agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes);
    let user_agent = String::from_utf8_lossy(user_agent.unwrap_or_default());
    Client { address, user_agent: UserAgent::clean(&user_agent) }
}
