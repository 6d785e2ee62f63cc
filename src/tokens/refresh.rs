//! Refresh tokens (RFC 6749 section 1.5): the id of a session and a generation, authenticated. They are
//! computed and not stored, so nothing in the database can be stolen and used, and whoever has to be
//! given the same one again can be.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use uuid::Uuid;

use crate::domain::{Generation, SessionId, SigningKey};

const SALT: &[u8] = b"portcullis";
const INFO: &[u8] = b"refresh token";

const ID_LENGTH: usize = 16;
const MESSAGE_LENGTH: usize = ID_LENGTH + 8;

/// Issues and checks refresh tokens, under a key derived from the one that signs access tokens
/// (HKDF, RFC 5869).
pub(super) struct RefreshTokens(hmac::Key);

impl RefreshTokens {
    pub(super) fn new(key: &SigningKey) -> Self {
        // HKDF with an output of one block, so that nothing can fail.
        let extracted = hmac::sign(&hmac_key(SALT), key.expose());
        let expanded = hmac::sign(&hmac_key(extracted.as_ref()), &[INFO, &[1]].concat());
        Self(hmac_key(expanded.as_ref()))
    }

    /// Computes the token of a generation: base64url of the id, the generation and an HMAC over both.
    pub(super) fn issue(&self, session: SessionId, generation: Generation) -> String {
        let id = session.as_uuid();
        let message = [id.as_bytes().as_slice(), &generation.number().to_be_bytes()].concat();
        let tag = hmac::sign(&self.0, &message);
        URL_SAFE_NO_PAD.encode([&message, tag.as_ref()].concat())
    }

    /// Returns what a token says, or `None` when it is not one of ours.
    pub(super) fn verify(&self, token: &str) -> Option<(SessionId, Generation)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (message, tag) = bytes.split_at_checked(MESSAGE_LENGTH)?;
        hmac::verify(&self.0, message, tag).ok()?;
        let (id, generation) = message.split_at(ID_LENGTH);
        let generation = u64::from_be_bytes(generation.try_into().ok()?);
        Some((Uuid::from_slice(id).ok()?.into(), generation.into()))
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::hkdf;

    use super::*;

    fn tokens(key: u8) -> RefreshTokens {
        RefreshTokens::new(&SigningKey::parse(&[key; 32]).unwrap())
    }

    #[test]
    fn a_token_says_what_it_was_issued_for_and_is_the_same_each_time() {
        let (session, generation) = (SessionId::random(), Generation::from(u64::MAX - 1));

        let token = tokens(1).issue(session, generation);

        assert_eq!(tokens(1).verify(&token), Some((session, generation)));
        assert_eq!(tokens(1).issue(session, generation), token);
        assert_ne!(tokens(1).issue(session, generation.next()), token);
        assert_eq!(token.len(), 75);
    }

    #[test]
    fn a_token_under_another_key_is_none() {
        let token = tokens(1).issue(SessionId::random(), Generation::FIRST);

        assert_eq!(tokens(2).verify(&token), None);
    }

    #[test]
    fn the_key_is_derived_as_rfc_5869_says() {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&[1; 32]);
        let key = derived.expand(&[INFO], hmac::HMAC_SHA256).unwrap().into();
        let (session, generation) = (SessionId::random(), Generation::FIRST);

        let expected = RefreshTokens(key).issue(session, generation);

        assert_eq!(tokens(1).issue(session, generation), expected);
    }

    #[test]
    fn the_key_is_not_the_one_that_signs_access_tokens() {
        let session = SessionId::random();
        let message = [session.as_uuid().as_bytes().as_slice(), &[0; 8]].concat();
        let signed = hmac::sign(&hmac_key(&[1; 32]), &message);
        let token = URL_SAFE_NO_PAD.encode([&message, signed.as_ref()].concat());

        assert_eq!(tokens(1).verify(&token), None);
    }

    proptest! {
        #[test]
        fn any_altered_token_is_none(position in 0..75_usize, letter in "[A-Za-z0-9_-]") {
            let token = tokens(1).issue(SessionId::from(Uuid::nil()), Generation::FIRST);
            let mut altered = token.clone();
            altered.replace_range(position..=position, &letter);
            prop_assume!(altered != token);

            prop_assert_eq!(tokens(1).verify(&altered), None);
        }

        #[test]
        fn any_other_text_is_none(text in "\\PC{0,120}") {
            prop_assert_eq!(tokens(1).verify(&text), None);
        }
    }
}
