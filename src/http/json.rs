//! [`Json`]: JSON replies. They end with a newline, so that a shell prompts on a line of its own.

use actix_web::body::BoxBody;
use actix_web::error::JsonPayloadError;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, Responder};
use serde::Serialize;

/// Reply 200 with a value.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        reply_json(&mut HttpResponse::Ok(), &self.0)
    }
}

/// Completes a reply with a value.
pub(super) fn reply_json(reply: &mut HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    match to_json(value) {
        Ok(json) => reply.content_type(ContentType::json()).body(json),
        Err(error) => HttpResponse::from_error(JsonPayloadError::Serialize(error)),
    }
}

/// Serializes a value, and ends it with a newline.
///
/// # Errors
/// Returns the error of `serde_json`, which no reply causes.
pub(super) fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = serde_json::to_vec(value)?;
    json.push(b'\n');
    Ok(json)
}
