//! Device tokens: proofs that the owner of an account has logged in on a device before. A login with
//! one has a failure counter of its own, which guesses by strangers do not reach.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use time::OffsetDateTime;
use uuid::Uuid;

use super::root_key::{CryptoError, RootKey};
use crate::domain::{Device, User, UserVersion, Username};

/// Life of a device token after the latest login with it.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// Device id, account id, version of the account, and expiry in seconds since the Unix epoch.
const MESSAGE_LENGTH: usize = 16 + 16 + 8 + 8;

/// Issues and verifies device tokens. Their key is derived from the root key.
pub(super) struct DeviceTokens(hmac::Key);

impl DeviceTokens {
    pub(super) fn new(root: &RootKey) -> Result<Self, CryptoError> {
        Ok(Self(root.hmac_key("device token")?))
    }

    /// Returns a token for the account in its present version: base64url of the message and of its
    /// HMAC. `device_id` identifies the device.
    pub(super) fn issue(&self, device_id: Uuid, user: &User, now: OffsetDateTime) -> String {
        let expires_at = (now + LIFETIME).unix_timestamp();
        let message = [
            device_id.as_bytes().as_slice(),
            user.id.as_uuid().as_bytes(),
            &user.version.number().to_be_bytes(),
            &expires_at.to_be_bytes(),
        ]
        .concat();
        let tag = hmac::sign(&self.0, &signed_data(&message, &user.username));
        URL_SAFE_NO_PAD.encode([&message, tag.as_ref()].concat())
    }

    /// Returns the device of a token, or `None` if it is not authentic, has expired, or is for
    /// another username.
    pub(super) fn verify(
        &self,
        token: &str,
        username: &Username,
        now: OffsetDateTime,
    ) -> Option<Device> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (message, tag) = bytes.split_at_checked(MESSAGE_LENGTH)?;
        hmac::verify(&self.0, &signed_data(message, username), tag).ok()?;
        let (device_id, rest) = message.split_at(16);
        let (user_id, rest) = rest.split_at(16);
        let (version, expires_at) = rest.split_at(8);
        let expires_at = i64::from_be_bytes(expires_at.try_into().ok()?);
        (now.unix_timestamp() < expires_at).then_some(Device {
            id: Uuid::from_slice(device_id).ok()?,
            user_id: Uuid::from_slice(user_id).ok()?.into(),
            version: UserVersion::from(u64::from_be_bytes(version.try_into().ok()?)),
        })
    }
}

/// Binds a message, of fixed length, to a username. So a token is verified before its account is
/// read from the database.
fn signed_data(message: &[u8], username: &Username) -> Vec<u8> {
    [message, username.key().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::domain::Roles;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn tokens(key: u8) -> DeviceTokens {
        DeviceTokens::new(&RootKey::from_bytes([key; 32])).unwrap()
    }

    fn username(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn alice() -> User {
        let version = UserVersion::FIRST.next();
        User { version, ..User::new(username("Alice"), Roles::default(), NOW) }
    }

    #[test]
    fn token_names_the_device_and_the_version_of_the_account() {
        let (device_id, user) = (Uuid::new_v4(), alice());

        let token = tokens(1).issue(device_id, &user, NOW);

        let device = Device { id: device_id, user_id: user.id, version: user.version };
        assert_eq!(tokens(1).verify(&token, &username("ALICE"), NOW), Some(device));
    }

    #[test]
    fn token_of_another_key_name_or_time_is_refused() {
        let token = tokens(1).issue(Uuid::new_v4(), &alice(), NOW);

        assert_eq!(tokens(2).verify(&token, &username("alice"), NOW), None);
        assert_eq!(tokens(1).verify(&token, &username("alic"), NOW), None);
        assert_eq!(tokens(1).verify(&token, &username("alice"), NOW + LIFETIME), None);
    }

    #[test]
    fn altered_token_is_refused() {
        let token = tokens(1).issue(Uuid::new_v4(), &alice(), NOW);
        for position in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(tokens(1).verify(&altered, &username("alice"), NOW), None, "{altered}");
        }
        assert_eq!(tokens(1).verify("", &username("alice"), NOW), None);
    }
}
