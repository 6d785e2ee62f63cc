//! Usernames and passwords in request bodies.

use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::error::ApiError;
use crate::domain::{NewPassword, Password, PasswordPolicy, Username};

/// Username and password of a new account.
#[derive(Deserialize, ToSchema)]
#[schema(as = Credentials, example = json!({ "username": "testuser", "password": "testpass" }))]
pub(super) struct RawCredentials {
    #[schema(value_type = Username)]
    pub(super) username: Option<String>,
    #[schema(value_type = NewPassword)]
    pub(super) password: Option<String>,
}

impl RawCredentials {
    /// Parses the credentials of a new account.
    pub(super) fn parse(self, policy: &PasswordPolicy) -> Result<(Username, Password), ApiError> {
        let (username, password) = self.into_non_empty()?;
        let username = Username::parse(&username)?;
        let password = policy.parse(&password)?.for_user(&username)?;
        Ok((username, password))
    }

    /// Parses the credentials of a login. Malformed ones are `None`: they cannot belong to an
    /// account.
    pub(super) fn parse_for_login(self) -> Result<Option<(Username, Password)>, ApiError> {
        let (username, password) = self.into_non_empty()?;
        Ok(Username::parse_existing(&username).ok().zip(Password::parse(&password).ok()))
    }

    fn into_non_empty(self) -> Result<(String, Zeroizing<String>), ApiError> {
        let password = self.password.map(Zeroizing::new);
        match (self.username, password) {
            (Some(username), Some(password)) if !username.is_empty() && !password.is_empty() => {
                Ok((username, password))
            }
            _ => Err(ApiError::MissingCredentials),
        }
    }
}

/// Parses a new password.
pub(super) fn parse_new_password(
    raw: Option<String>,
    policy: &PasswordPolicy,
) -> Result<NewPassword, ApiError> {
    Ok(policy.parse(&non_empty_password(raw)?)?)
}

/// Parses the present password of an account. A malformed one is `None`: it cannot be right.
pub(super) fn parse_current_password(raw: Option<String>) -> Result<Option<Password>, ApiError> {
    Ok(Password::parse(&non_empty_password(raw)?).ok())
}

fn non_empty_password(raw: Option<String>) -> Result<Zeroizing<String>, ApiError> {
    match raw.map(Zeroizing::new) {
        Some(password) if !password.is_empty() => Ok(password),
        _ => Err(ApiError::MissingPassword),
    }
}
