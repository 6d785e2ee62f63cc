//! Metadata of accounts.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// JSON object about an account, for administrators and for the APIs behind the service. At most
/// 4 KiB without insignificant whitespace. An integer of more than 64 bits becomes a floating-point
/// number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Metadata(Map<String, Value>);

/// The value is no [`Metadata`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("metadata must be a JSON object of at most {} bytes", Metadata::MAX_BYTES)]
pub struct MetadataError;

impl Metadata {
    /// Maximum length in bytes.
    pub const MAX_BYTES: usize = 4096;
}

impl TryFrom<Value> for Metadata {
    type Error = MetadataError;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let Value::Object(object) = value else { return Err(MetadataError) };
        let metadata = Self(object);
        if metadata.to_string().len() > Self::MAX_BYTES {
            return Err(MetadataError);
        }
        Ok(metadata)
    }
}

impl FromStr for Metadata {
    type Err = MetadataError;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str::<Value>(json).map_err(|_| MetadataError)?.try_into()
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_is_written_as_it_was_read() {
        for json in ["{}", r#"{"plan":"pro","seats":[1,2],"é":null}"#] {
            assert_eq!(json.parse::<Metadata>().unwrap().to_string(), json);
        }
        for json in ["", "[]", "null", "1", "{", r#"{"a":1"#] {
            assert_eq!(json.parse::<Metadata>(), Err(MetadataError), "{json}");
        }
    }

    #[test]
    fn length_is_that_of_the_compact_form() {
        let json = |bytes: usize| format!(r#"{{ "a" : "{}" }}"#, "x".repeat(bytes - 8));

        assert!(json(4096).parse::<Metadata>().is_ok());
        assert_eq!(json(4097).parse::<Metadata>(), Err(MetadataError));
    }
}
