//! Request bodies: JSON objects and forms, limited in size and time.

use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::dev::{self, Payload};
use actix_web::error::{JsonPayloadError, UrlencodedError};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::error::ApiError;
use super::state::Api;

/// Maximum size of a request body, in bytes. Credentials need no more.
pub(super) const MAX_BODY_SIZE: usize = 16 * 1024;

/// Body that is not read yet. A handler checks first whether the bearer is allowed to send one, and
/// then reads it.
struct UnreadBody {
    request: HttpRequest,
    payload: Payload,
    /// Maximum time in which the body has to arrive. The server's own timeout covers only the head
    /// of a request.
    timeout: Duration,
}

/// Extractor of a JSON object.
pub(super) struct JsonBody<T> {
    body: UnreadBody,
    content: PhantomData<T>,
}

/// Extractor of a form.
pub(super) struct FormBody<T> {
    body: UnreadBody,
    content: PhantomData<T>,
}

impl<T: DeserializeOwned + 'static> JsonBody<T> {
    /// Reads the body.
    ///
    /// # Errors
    /// Returns [`ApiError::InvalidBody`], [`ApiError::BodyTooSlow`], [`ApiError::BodyTooLarge`] or
    /// [`ApiError::NotJson`].
    pub(super) async fn read(self) -> Result<T, ApiError> {
        let UnreadBody { request, mut payload, timeout } = self.body;
        let body = dev::JsonBody::<Object<T>>::new(&request, &mut payload, None, true);
        let body = in_time(timeout, body.limit(MAX_BODY_SIZE)).await?;
        body.map(|Object(body)| body).map_err(|error| json_error(&error))
    }
}

impl<T: DeserializeOwned + 'static> FormBody<T> {
    /// Reads the body.
    ///
    /// # Errors
    /// Returns [`ApiError::InvalidBody`], [`ApiError::BodyTooSlow`], [`ApiError::BodyTooLarge`] or
    /// [`ApiError::NotForm`].
    pub(super) async fn read(self) -> Result<T, ApiError> {
        let UnreadBody { request, mut payload, timeout } = self.body;
        let body = dev::UrlEncoded::new(&request, &mut payload).limit(MAX_BODY_SIZE);
        in_time(timeout, body).await?.map_err(|error| form_error(&error))
    }
}

impl UnreadBody {
    fn take(request: &HttpRequest, payload: &mut Payload) -> Self {
        let timeout =
            request.app_data::<Data<Api>>().map_or(Duration::ZERO, |api| api.body_timeout);
        Self { request: request.clone(), payload: payload.take(), timeout }
    }
}

impl<T> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { body: UnreadBody::take(request, payload), content: PhantomData }))
    }
}

impl<T> FromRequest for FormBody<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { body: UnreadBody::take(request, payload), content: PhantomData }))
    }
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

/// Waits for a body, but no longer than `limit`.
async fn in_time<T>(limit: Duration, body: impl Future<Output = T>) -> Result<T, ApiError> {
    timeout(limit, body).await.map_err(|_| ApiError::BodyTooSlow)
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
