//! `/revocations`: the revocation feed, which verifiers follow.

mod complete;
mod limits;

use std::io;
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::ContentType;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use prometheus::IntGauge;
use serde::{Deserialize, Serialize};
use tokio::select;
use tokio::time::{sleep, timeout};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::caller::Caller;
use super::compression::AcceptsGzip;
use super::error::ApiError;
use super::json::to_json;
use super::refused::{
    BadQuery, BadToken, NeedsRevocationsRead, Overloaded, Refused, Stale, WrongClient,
};
use super::state::Api;
use crate::domain::{FeedCursor, Permission};
use crate::metrics::ReceiverReply;
use crate::revocation::LogReply;
pub use complete::CompleteReads;
use complete::in_background;
pub use limits::FeedLimits;
use limits::PACE;

/// Number of revocations from which a reply is long: some 54 KB.
const LONG_REPLY: usize = 1_000;

/// Bytes of a revocation in a reply.
const REVOCATION_SIZE: usize = 54;

/// Time that the answer to a receiver takes up when many get theirs together.
const SPREAD: Duration = Duration::from_micros(100);

/// Longest nonce, in bytes.
const MAX_NONCE: usize = 128;

/// Query of the feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFeedQuery {
    /// `cursor` of the latest reply, from any instance. Without it the reply is complete.
    cursor: Option<String>,
    /// Longest wait for a revocation, in seconds; at most half of `bound_ms` is waited.
    #[param(minimum = 0)]
    wait: Option<f64>,
    /// Text that the reply repeats: no other reply can be taken for it.
    #[param(max_length = 128)]
    nonce: Option<String>,
}

/// Checked request of a receiver.
struct FeedRequest {
    arrived_at: Duration,
    cursor: Option<FeedCursor>,
    /// Whether the reply with this cursor had revocations: then the next one is [`PACE`] later.
    is_paced: bool,
    wait: Duration,
    nonce: String,
    accepts_gzip: bool,
}

/// Revocations after a cursor.
#[derive(Serialize, ToSchema)]
#[schema(as = Revocations)]
struct RevocationsView {
    /// `nonce` of the request, empty without one.
    nonce: String,
    /// Position after these revocations, for the next request.
    #[schema(example = "0ZmVlZC1pZHOACA")]
    cursor: String,
    /// Arrival of the request minus the beginning of the read of the database that is answered from,
    /// in milliseconds; negative if the read began later. Everything committed before that read is
    /// in this reply, or was in an earlier one.
    #[schema(example = 12)]
    age_ms: i64,
    /// Time of the database, in seconds since the Unix epoch.
    #[schema(example = 1_767_323_045)]
    now: i64,
    /// Staleness bound of the service, in milliseconds.
    #[schema(example = 5_000)]
    bound_ms: u64,
    /// Whether these are all live revocations.
    complete: bool,
    /// Revocations: the id of a token (`jti`), of a session (`sid`) or of a key (the first half of its
    /// thumbprint, as a UUID), with the time from which no token that bears it is valid, in seconds
    /// since the Unix epoch. An id may come again, with another time; the later expiry counts.
    #[schema(
        value_type = Vec<Vec<Value>>,
        example = json!([["7c4b7bc8-2d4b-4c0e-8d3c-2c7a4b1f9a10", 1_767_326_705]]),
    )]
    revoked: Vec<(Uuid, i64)>,
}

/// Counts a receiver until it is dropped.
struct Waiting(IntGauge);

/// Follow the revocations
///
/// For services that verify access tokens offline. The reply is sent at once if there are
/// revocations after the cursor, otherwise when there are, or after `wait`. An instance sends
/// revocations at most five times a second, to all receivers together. An instance that may not know
/// the latest revocations closes the connection, so that the next request reaches another one.
#[utoipa::path(
    get, path = "/revocations", operation_id = "revocations", tag = "oauth",
    security(("client_secret" = []), ("access_token" = ["revocations:read"])), params(RawFeedQuery),
    responses(
        (status = 200, description = "The revocations", body = RevocationsView),
        Refused<(BadToken, WrongClient, BadQuery, NeedsRevocationsRead, Stale, Overloaded)>,
    ),
)]
pub(super) async fn follow(
    api: Data<Api>,
    request: HttpRequest,
    query: Query<RawFeedQuery>,
    AcceptsGzip(accepts_gzip): AcceptsGzip,
) -> Result<HttpResponse, ApiError> {
    let arrived_at = api.clock.uptime();
    let caller = Caller::from_header(&api, &request).await?;
    caller.require_permission(Some(&Permission::REVOCATIONS_READ))?;
    let request = FeedRequest::parse(query.into_inner(), &api, arrived_at, accepts_gzip)?;
    let result = answer(&api, &request).await;
    match &result {
        Ok(reply) => {
            if let BodySize::Sized(bytes) = reply.body().size() {
                api.metrics.receiver_reply_bytes.inc_by(bytes);
            }
        }
        Err(_) => api.metrics.receiver_replies.inc(ReceiverReply::Refused),
    }
    result
}

/// Answers from one view of the log, the latest one after the wait.
async fn answer(api: &Api, request: &FeedRequest) -> Result<HttpResponse, ApiError> {
    api.require_fresh()?;
    let Some(cursor) = &request.cursor else { return reply_with_all(api, request).await };
    know_server(api, cursor, request.arrived_at).await?;
    let log = api.replica.log();
    if log.latest().serves(cursor) {
        select! {
            () = wait_for_rows(api, cursor, request) => {}
            () = api.connections.until_draining() => {}
        }
    }
    match log.latest().reply(cursor, request.arrived_at) {
        Some(later) => reply_with_later(api, request, later).await,
        None => reply_with_all(api, request).await,
    }
}

/// Waits for a read if a cursor is from another server: it may be the one that this instance is about
/// to meet.
async fn know_server(api: &Api, cursor: &FeedCursor, arrived_at: Duration) -> Result<(), ApiError> {
    let log = api.replica.log();
    if log.latest().cursor().server == cursor.server {
        return Ok(());
    }
    let limit = api.replica.max_staleness() / 2;
    let read = timeout(limit, log.wait_for_read(arrived_at)).await;
    read.map_err(|error| ApiError::Unavailable(error.into()))
}

/// Waits until there are revocations after the cursor and they may be sent, or the receiver has
/// waited.
async fn wait_for_rows(api: &Api, cursor: &FeedCursor, request: &FeedRequest) {
    let _waiting = Waiting::new(&api.metrics.receivers_waiting);
    let rows = async {
        if request.is_paced {
            sleep(PACE).await;
        }
        api.replica.log().wait_for_rows(cursor).await;
        let longest = longest_delay(api.metrics.receivers_waiting.get());
        if !longest.is_zero() {
            sleep(longest.mul_f64(fastrand::f64())).await;
        }
    };
    if timeout(request.wait.max(PACE), rows).await.is_ok() {
        api.feed_limits.wait_for_release(request.arrived_at).await;
    }
}

/// Returns the longest delay of an answer with revocations. All who wait are woken at once: if they
/// were answered at once, the checks of tokens that arrive meanwhile would be behind them all.
fn longest_delay(waiting: i64) -> Duration {
    let spread = SPREAD.saturating_mul(waiting.try_into().unwrap_or_default()).min(PACE);
    // The timers count milliseconds; for few receivers they would only delay.
    Duration::from_millis(spread.as_millis().try_into().unwrap_or(u64::MAX))
}

/// Replies with the revocations after the cursor of the request.
async fn reply_with_later(
    api: &Api,
    request: &FeedRequest,
    later: LogReply,
) -> Result<HttpResponse, ApiError> {
    let len = later.rows.len();
    if len > LONG_REPLY {
        api.feed_limits.spend(u32::try_from(len * REVOCATION_SIZE).unwrap_or(u32::MAX))?;
    }
    let kind = if len == 0 { ReceiverReply::Empty } else { ReceiverReply::Incremental };
    let reply = RevocationsView::new(api, request, later, false)?;
    let json = if len > LONG_REPLY {
        in_background(move || Ok(to_json(&reply)?)).await?
    } else {
        to_json(&reply).map_err(io::Error::from)?
    };
    api.metrics.receiver_replies.inc(kind);
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(json))
}

/// Replies with every live revocation.
async fn reply_with_all(api: &Api, request: &FeedRequest) -> Result<HttpResponse, ApiError> {
    let complete = api.complete_reads.latest().await?;
    api.feed_limits.spend(complete.size(request.accepts_gzip))?;
    let later = api.replica.log().latest().reply(&complete.cursor, request.arrived_at);
    let later = later.ok_or_else(|| ApiError::Unavailable("the log has moved on".into()))?;
    let reply = RevocationsView::new(api, request, later, true)?;
    let json = to_json(&reply).map_err(io::Error::from)?;
    api.metrics.receiver_replies.inc(ReceiverReply::Complete);
    Ok(complete.respond(json, request.accepts_gzip)?)
}

impl FeedRequest {
    fn parse(
        raw: RawFeedQuery,
        api: &Api,
        arrived_at: Duration,
        accepts_gzip: bool,
    ) -> Result<Self, ApiError> {
        let invalid = |reason: &str| ApiError::InvalidQuery(reason.to_owned());
        let (is_paced, cursor) = match raw.cursor.map(|text| parse_cursor(&text)) {
            Some(Some((is_paced, cursor))) => (is_paced, Some(cursor)),
            Some(None) => return Err(invalid("cursor must be the `cursor` of a reply")),
            None => (false, None),
        };
        let wait = Duration::try_from_secs_f64(raw.wait.unwrap_or_default())
            .map_err(|_| invalid("wait must be a number of seconds"))?
            .min(api.replica.max_staleness() / 2);
        let nonce = raw.nonce.unwrap_or_default();
        if nonce.len() > MAX_NONCE {
            return Err(invalid("nonce must have at most 128 bytes"));
        }
        Ok(Self { arrived_at, cursor, is_paced, wait, nonce, accepts_gzip })
    }
}

/// Parses a cursor: 1 if the reply with it had revocations, otherwise 0, then the position.
fn parse_cursor(text: &str) -> Option<(bool, FeedCursor)> {
    let (is_paced, position) = match text.split_at_checked(1)? {
        ("0", position) => (false, position),
        ("1", position) => (true, position),
        _ => return None,
    };
    Some((is_paced, position.parse().ok()?))
}

impl RevocationsView {
    /// Creates the reply, or the beginning of a complete one.
    ///
    /// # Errors
    /// Returns [`ApiError::RevocationsStale`].
    fn new(
        api: &Api,
        request: &FeedRequest,
        reply: LogReply,
        complete: bool,
    ) -> Result<Self, ApiError> {
        api.require_fresh()?;
        let LogReply { rows, cursor, age_ms } = reply;
        let age = Duration::from_millis(age_ms.try_into().unwrap_or_default());
        api.metrics.receiver_age.observe(age.as_secs_f64());
        Ok(Self {
            nonce: request.nonce.clone(),
            cursor: format!("{}{cursor}", u8::from(!complete && !rows.is_empty())),
            age_ms,
            now: api.clock.now().unix_timestamp(),
            bound_ms: u64::try_from(api.replica.max_staleness().as_millis()).unwrap_or(u64::MAX),
            complete,
            revoked: rows.iter().map(|row| (row.id.as_uuid(), row.expires_at)).collect(),
        })
    }
}

impl Waiting {
    fn new(receivers: &IntGauge) -> Self {
        receivers.inc();
        Self(receivers.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_receivers_get_their_answers_at_once() {
        for (waiting, longest) in [(-1, 0), (0, 0), (9, 0), (500, 50), (9_000, 200)] {
            assert_eq!(longest_delay(waiting), Duration::from_millis(longest), "{waiting}");
        }
    }
}
