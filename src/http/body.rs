//! Request bodies: JSON objects and forms, limited in size and time.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::{JsonPayloadError, UrlencodedError};
use actix_web::web::{Data, Form, FormConfig, Json, JsonConfig};
use actix_web::{Error, FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::error::ApiError;
use super::state::Api;

/// Maximum size of a request body, in bytes. Credentials need no more.
pub(super) const MAX_BODY_SIZE: usize = 16 * 1024;

/// Extractor of a JSON object that arrives within [`Api::body_timeout`]. The server's own timeout
/// covers only the head of a request.
pub(super) struct JsonBody<T>(pub(super) T);

/// Extractor of a form that arrives within [`Api::body_timeout`].
pub(super) struct FormBody<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = in_time(Json::<Object<T>>::from_request(request, payload), request);
        Box::pin(async move { body.await.map(|Json(Object(body))| Self(body)) })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for FormBody<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = in_time(Form::<T>::from_request(request, payload), request);
        Box::pin(async move { body.await.map(|Form(body)| Self(body)) })
    }
}

/// Returns the settings for JSON bodies.
pub(super) fn json_config() -> JsonConfig {
    JsonConfig::default().limit(MAX_BODY_SIZE).error_handler(|error, _| json_error(&error).into())
}

/// Returns the settings for forms.
pub(super) fn form_config() -> FormConfig {
    FormConfig::default().limit(MAX_BODY_SIZE).error_handler(|error, _| form_error(&error).into())
}

fn json_error(error: &JsonPayloadError) -> ApiError {
    match error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            ApiError::BodyTooLarge(MAX_BODY_SIZE)
        }
        JsonPayloadError::ContentType => ApiError::NotJson,
        JsonPayloadError::Deserialize(error) => ApiError::InvalidBody(error.to_string()),
        other => ApiError::InvalidBody(other.to_string()),
    }
}

fn form_error(error: &UrlencodedError) -> ApiError {
    match error {
        UrlencodedError::Overflow { .. } => ApiError::BodyTooLarge(MAX_BODY_SIZE),
        UrlencodedError::ContentType => ApiError::NotForm,
        other => ApiError::InvalidBody(other.to_string()),
    }
}

/// Limits the time for reading a body.
fn in_time<T, F: Future<Output = Result<T, Error>>>(
    body: F,
    request: &HttpRequest,
) -> impl Future<Output = Result<T, Error>> + use<T, F> {
    let limit = request.app_data::<Data<Api>>().map_or(Duration::ZERO, |api| api.body_timeout);
    async move { timeout(limit, body).await.unwrap_or_else(|_| Err(ApiError::BodyTooSlow.into())) }
}

/// Value of a JSON object. Without this wrapper, serde would also read a struct from an array of
/// its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}
