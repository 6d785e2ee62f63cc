//! Request bodies: JSON objects, and nothing else, that arrive in time.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::web::{Data, Json};
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
        let limit = request.app_data::<Data<Api>>().map_or(Duration::ZERO, |api| api.body_timeout);
        let body = Json::<Object<T>>::from_request(request, payload);
        Box::pin(async move {
            match timeout(limit, body).await {
                Ok(body) => body.map(|Json(Object(body))| Self(body)),
                Err(_) => Err(ApiError::BodyTooSlow.into()),
            }
        })
    }
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
