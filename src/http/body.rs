//! Request bodies: JSON objects, and nothing else, or forms, that arrive in time.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::web::{self, Data, Json};
use actix_web::{Error, FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::{Api, ApiError};

/// A body, read as a value of `T`. Whoever sends it too slowly is not waited for: the server's own
/// timers end with the head of a request.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = in_time(Json::<Object<T>>::from_request(request, payload), request);
        Box::pin(async move { body.await.map(|Json(Object(body))| Self(body)) })
    }
}

/// The fields of a form, read as a value of `T`, in time as well.
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let form = in_time(web::Form::<T>::from_request(request, payload), request);
        Box::pin(async move { form.await.map(|web::Form(form)| Self(form)) })
    }
}

/// Reads a body for as long as the settings allow.
fn in_time<T, F: Future<Output = Result<T, Error>>>(
    body: F,
    request: &HttpRequest,
) -> impl Future<Output = Result<T, Error>> + use<T, F> {
    let limit = request.app_data::<Data<Api>>().map_or(Duration::ZERO, |api| api.body_timeout);
    async move { timeout(limit, body).await.unwrap_or_else(|_| Err(ApiError::BodyTooSlow.into())) }
}

/// A value read from a JSON object. Read without it, a struct also takes an array of its fields,
/// which nobody means to send.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}
