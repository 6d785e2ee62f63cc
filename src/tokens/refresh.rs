//! Refresh tokens (RFC 6749 section 1.5): a session id and a generation, authenticated by an HMAC.
//! They are derived, not stored: the database holds nothing to steal, and a retry gets the same
//! token again.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

use super::root_key::{CryptoError, RootKey};
use crate::domain::{Generation, SessionId};

const ID_LENGTH: usize = 16;
const MESSAGE_LENGTH: usize = ID_LENGTH + 8;

/// Issues and verifies refresh tokens. Their key is derived from the root key.
pub(super) struct RefreshTokens(hmac::Key);

impl RefreshTokens {
    pub(super) fn new(root: &RootKey) -> Result<Self, CryptoError> {
        Ok(Self(root.hmac_key("refresh token")?))
    }

    /// Returns the token of a generation: base64url of the id, the generation and the HMAC of both.
    pub(super) fn issue(&self, session_id: SessionId, generation: Generation) -> String {
        let id = session_id.as_uuid();
        let message = [id.as_bytes().as_slice(), &generation.number().to_be_bytes()].concat();
        let tag = hmac::sign(&self.0, &message);
        URL_SAFE_NO_PAD.encode([&message, tag.as_ref()].concat())
    }

    /// Returns the session and the generation of a token, or `None` if it is not authentic.
    pub(super) fn verify(&self, token: &str) -> Option<(SessionId, Generation)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (message, tag) = bytes.split_at_checked(MESSAGE_LENGTH)?;
        hmac::verify(&self.0, message, tag).ok()?;
        let (id, generation) = message.split_at(ID_LENGTH);
        let generation = u64::from_be_bytes(generation.try_into().ok()?);
        Some((Uuid::from_slice(id).ok()?.into(), generation.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(key: u8) -> RefreshTokens {
        RefreshTokens::new(&RootKey::from_bytes([key; 32])).unwrap()
    }

    #[test]
    fn token_is_deterministic_and_verifies() {
        let session = SessionId::random();
        let generation = Generation::from(u64::MAX - 1);

        let token = tokens(1).issue(session, generation);

        assert_eq!(tokens(1).verify(&token), Some((session, generation)));
        assert_eq!(tokens(1).issue(session, generation), token);
        assert_ne!(tokens(1).issue(session, generation.next()), token);
        assert_eq!(token.len(), 75);
    }

    #[test]
    fn token_of_another_key_is_refused() {
        let token = tokens(1).issue(SessionId::random(), Generation::FIRST);

        assert_eq!(tokens(2).verify(&token), None);
    }

    /// Computed with another implementation of HKDF and HMAC: tokens survive an upgrade.
    #[test]
    fn token_matches_known_value() {
        let token = tokens(1).issue(SessionId::from(Uuid::nil()), Generation::FIRST);

        assert_eq!(
            token,
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADqDETA0N9wDxXK16n3A1sNJRgvfTgjZ0fYddnZqpocQ"
        );
    }

    #[test]
    fn key_differs_from_the_root_key() {
        let session = SessionId::random();
        let message = [session.as_uuid().as_bytes().as_slice(), &[0; 8]].concat();
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), &message);
        let token = URL_SAFE_NO_PAD.encode([&message, signed.as_ref()].concat());

        assert_eq!(tokens(1).verify(&token), None);
    }

    proptest! {
        #[test]
        fn altered_token_is_refused(position in 0..75_usize, letter in "[A-Za-z0-9_-]") {
            let token = tokens(1).issue(SessionId::from(Uuid::nil()), Generation::FIRST);
            let mut altered = token.clone();
            altered.replace_range(position..=position, &letter);
            prop_assume!(altered != token);

            prop_assert_eq!(tokens(1).verify(&altered), None);
        }

        #[test]
        fn arbitrary_text_is_refused(text in "\\PC{0,120}") {
            prop_assert_eq!(tokens(1).verify(&text), None);
        }
    }
}
