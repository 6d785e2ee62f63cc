//! Changes to clients, and the decision about them.

use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    AuditAction, AuditRecord, Client, ClientId, ClientName, ClientRights, ClientSecret, Grantable,
    LackingPermissions, MAX_LEEWAY, Permissions, Requester, Revocation, SECRETS_PER_CLIENT,
    SecretId, SessionId,
};

/// Edit of a client.
#[derive(Clone, Debug)]
pub enum ClientEdit {
    /// Creates the client with a first secret.
    Create(ClientName, ClientRights, NewSecret),
    /// Replaces the rights. Tokens with more than the new ones end.
    SetRights(ClientRights),
    /// Adds a secret.
    AddSecret(NewSecret),
    /// Removes a secret, and ends the tokens that were issued for it.
    RemoveSecret(SecretId),
    /// Ends the tokens that were issued for the secret with this session id.
    EndTokens(SessionId),
    /// Refuses the client, and ends its tokens.
    Disable,
    /// Accepts the client again.
    Enable,
    /// Deletes the client, and ends its tokens.
    Delete,
}

/// Secret that was generated for a client.
#[derive(Clone, Debug)]
pub struct NewSecret {
    pub id: SecretId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
}

/// Request to change a client.
#[derive(Clone, Debug)]
pub struct ClientChange {
    pub client_id: ClientId,
    pub edit: ClientEdit,
    /// Life of the access tokens of the requester's instance; `None` on the command line, which
    /// issues none.
    pub token_lifetime: Option<Duration>,
    pub requester: Requester,
}

/// Result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedClient {
    /// Client after the change; before its deletion, if the change deleted it.
    pub client: Client,
    /// Whether the client still exists.
    pub is_deleted: bool,
    /// Revocations of the tokens that ended.
    pub revocations: Vec<Revocation>,
}

/// Reason to refuse a change of a client.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClientError {
    /// Another client has the name.
    #[error("the name is taken")]
    NameTaken,
    /// The client or the secret does not exist.
    #[error("the client does not exist")]
    NotFound,
    /// The client has as many secrets as it may.
    #[error("a client has at most {SECRETS_PER_CLIENT} secrets")]
    TooManySecrets,
    /// The session of the requester has ended.
    #[error("the session of the requester has ended")]
    RequesterSignedOut,
    /// The requester lacks permissions that it would grant.
    #[error(transparent)]
    PermissionsLacking(#[from] LackingPermissions),
}

impl ClientEdit {
    /// Returns the audit action of the edit.
    #[must_use]
    pub fn action(&self) -> AuditAction {
        match self {
            Self::Create(..) => AuditAction::ClientCreated,
            Self::SetRights(_) => AuditAction::ClientChanged,
            Self::AddSecret(_) => AuditAction::ClientSecretAdded,
            Self::RemoveSecret(_) => AuditAction::ClientSecretRemoved,
            Self::EndTokens(_) => AuditAction::ClientTokensEnded,
            Self::Disable => AuditAction::ClientDisabled,
            Self::Enable => AuditAction::ClientEnabled,
            Self::Delete => AuditAction::ClientDeleted,
        }
    }

    /// Returns the permissions that the edit grants: the new ones of the client, or all of them if the
    /// requester gets a secret of the client, enables it or extends its rights.
    fn granted(&self, before: Option<&Client>) -> Permissions {
        let held = before.map(|client| client.rights.permissions.clone()).unwrap_or_default();
        match self {
            Self::SetRights(rights)
                if before.is_some_and(|client| !rights.extend(&client.rights)) =>
            {
                rights.permissions.without(&held)
            }
            Self::Create(_, rights, _) | Self::SetRights(rights) => rights.permissions.clone(),
            Self::AddSecret(_) | Self::Enable => held,
            Self::RemoveSecret(_) | Self::EndTokens(_) | Self::Disable | Self::Delete => {
                Permissions::default()
            }
        }
    }
}

impl ClientChange {
    /// Decides the outcome of the change at the time `now`. Returns `None` if it has no effect.
    ///
    /// `before` is the client, whose rows must stay locked until the outcome is committed.
    ///
    /// # Errors
    /// Returns [`ClientError::NotFound`], [`ClientError::TooManySecrets`] or
    /// [`ClientError::PermissionsLacking`].
    pub fn decide(
        &self,
        before: Option<Client>,
        grantable: &Grantable,
        now: OffsetDateTime,
    ) -> Result<Option<ChangedClient>, ClientError> {
        grantable.check(&self.edit.granted(before.as_ref()))?;
        if let ClientEdit::Create(name, rights, secret) = &self.edit {
            let client = self.new_client(name.clone(), rights.clone(), secret, now);
            return Ok(Some(ChangedClient { client, is_deleted: false, revocations: Vec::new() }));
        }
        let before = before.ok_or(ClientError::NotFound)?;
        let Some(mut client) = self.apply(before.clone(), now)? else { return Ok(None) };
        let is_deleted = matches!(self.edit, ClientEdit::Delete);
        let ended = self.ended_secrets(&before);
        for secret in &mut client.secrets {
            if ended.iter().any(|ended| ended.id == secret.id) {
                secret.session_id = SessionId::random();
                secret.tokens_expire_at = None;
            }
        }
        let revocations = ended.iter().map(|secret| self.revocation(secret, now)).collect();
        Ok(Some(ChangedClient { client, is_deleted, revocations }))
    }

    fn new_client(
        &self,
        name: ClientName,
        rights: ClientRights,
        secret: &NewSecret,
        now: OffsetDateTime,
    ) -> Client {
        Client {
            id: self.client_id,
            name,
            rights,
            created_at: now,
            disabled_at: None,
            secrets: vec![secret.created_at(now)],
        }
    }

    /// Returns the client after the edit, or `None` if nothing changed.
    fn apply(
        &self,
        mut client: Client,
        now: OffsetDateTime,
    ) -> Result<Option<Client>, ClientError> {
        let before = client.clone();
        match &self.edit {
            ClientEdit::SetRights(rights) => client.rights = rights.clone(),
            ClientEdit::AddSecret(_) if client.secrets.len() >= SECRETS_PER_CLIENT => {
                return Err(ClientError::TooManySecrets);
            }
            ClientEdit::AddSecret(secret) => client.secrets.push(secret.created_at(now)),
            ClientEdit::RemoveSecret(id) => {
                client.secrets.retain(|secret| secret.id != *id);
                if client.secrets.len() == before.secrets.len() {
                    return Err(ClientError::NotFound);
                }
            }
            ClientEdit::Disable => client.disabled_at = client.disabled_at.or(Some(now)),
            ClientEdit::Enable => client.disabled_at = None,
            ClientEdit::EndTokens(id) => {
                let has_it = client.secrets.iter().any(|secret| secret.session_id == *id);
                return Ok(has_it.then_some(client));
            }
            ClientEdit::Delete => return Ok(Some(client)),
            ClientEdit::Create(..) => {}
        }
        Ok((client != before).then_some(client))
    }

    /// Returns the secrets whose tokens end.
    fn ended_secrets(&self, before: &Client) -> Vec<ClientSecret> {
        let secrets = before.secrets.iter();
        match &self.edit {
            ClientEdit::RemoveSecret(id) => {
                secrets.filter(|secret| secret.id == *id).cloned().collect()
            }
            ClientEdit::EndTokens(id) => {
                secrets.filter(|secret| secret.session_id == *id).cloned().collect()
            }
            ClientEdit::SetRights(rights) if !before.rights.are_narrowed_by(rights) => Vec::new(),
            ClientEdit::SetRights(_) | ClientEdit::Disable | ClientEdit::Delete => {
                secrets.cloned().collect()
            }
            ClientEdit::Create(..) | ClientEdit::AddSecret(_) | ClientEdit::Enable => Vec::new(),
        }
    }

    /// Returns the revocation of the tokens of a secret. It exists even if none was issued: other
    /// instances accept the secret itself no longer because of it.
    fn revocation(&self, secret: &ClientSecret, now: OffsetDateTime) -> Revocation {
        let own_latest = now + self.token_lifetime.unwrap_or_default();
        let latest = secret.tokens_expire_at.map_or(own_latest, |expiry| expiry.max(own_latest));
        Revocation { id: secret.session_id.into(), expires_at: latest + MAX_LEEWAY }
    }

    /// Returns the audit record of the change.
    #[must_use]
    pub fn audit_record(&self, after: &Client, now: OffsetDateTime) -> AuditRecord {
        let detail = match &self.edit {
            ClientEdit::Create(..) | ClientEdit::SetRights(_) => {
                format!("{} {}: {}", after.name, after.id, after.rights)
            }
            ClientEdit::AddSecret(NewSecret { id, .. }) | ClientEdit::RemoveSecret(id) => {
                format!("{} {}: {id}", after.name, after.id)
            }
            _ => format!("{} {}", after.name, after.id),
        };
        AuditRecord {
            at: now,
            action: self.edit.action(),
            requester: self.requester.clone(),
            subject: None,
            session_id: None,
            detail: Some(detail),
        }
    }
}

impl NewSecret {
    fn created_at(&self, now: OffsetDateTime) -> ClientSecret {
        ClientSecret {
            id: self.id,
            hash: self.hash,
            session_id: SessionId::random(),
            created_at: now,
            tokens_expire_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const HOUR: Duration = Duration::from_hours(1);

    fn rights(permissions: &str) -> ClientRights {
        ClientRights { permissions: Permissions::from_scope(permissions), ..Default::default() }
    }

    fn new_secret() -> NewSecret {
        NewSecret { id: SecretId::random(), hash: [7; 32] }
    }

    fn change(client_id: ClientId, edit: ClientEdit) -> ClientChange {
        let requester = Requester::COMMAND_LINE;
        ClientChange { client_id, edit, token_lifetime: Some(HOUR), requester }
    }

    fn decide(
        before: Option<&Client>,
        edit: ClientEdit,
    ) -> Result<Option<ChangedClient>, ClientError> {
        let id = before.map_or_else(ClientId::random, |client| client.id);
        change(id, edit).decide(before.cloned(), &Grantable::All, NOW)
    }

    fn client(permissions: &str) -> Client {
        let name = ClientName::parse("orders").unwrap();
        let edit = ClientEdit::Create(name, rights(permissions), new_secret());
        decide(None, edit).unwrap().unwrap().client
    }

    #[test]
    fn narrowed_rights_end_the_tokens() {
        let before = client("orders:read orders:write");
        let narrower = ClientEdit::SetRights(rights("orders:read"));

        let changed = decide(Some(&before), narrower).unwrap().unwrap();

        let secret = &before.secrets[0];
        let id = secret.session_id.into();
        assert_eq!(changed.revocations, [Revocation { id, expires_at: NOW + HOUR + MAX_LEEWAY }]);
        assert_ne!(changed.client.secrets[0].session_id, secret.session_id);
        let wider = ClientEdit::SetRights(rights("orders:read orders:write keys:read"));
        let changed = decide(Some(&before), wider).unwrap().unwrap();
        assert_eq!(changed.revocations, []);
        let earlier = ClientRights { expires_at: Some(NOW), ..rights("orders:read orders:write") };
        let changed = decide(Some(&before), ClientEdit::SetRights(earlier)).unwrap().unwrap();
        assert_eq!(changed.revocations.len(), 1);
    }

    #[test]
    fn revocation_outlives_the_tokens_of_every_instance() {
        let mut before = client("orders:read");
        before.secrets[0].tokens_expire_at = Some(NOW + 5 * HOUR);

        for edit in [
            ClientEdit::Disable,
            ClientEdit::Delete,
            ClientEdit::RemoveSecret(before.secrets[0].id),
        ] {
            let changed = decide(Some(&before), edit).unwrap().unwrap();
            assert_eq!(changed.revocations[0].expires_at, NOW + 5 * HOUR + MAX_LEEWAY);
        }
    }

    #[test]
    fn client_has_at_most_two_secrets() {
        let one = client("orders:read");

        let two = decide(Some(&one), ClientEdit::AddSecret(new_secret())).unwrap().unwrap().client;
        let third = decide(Some(&two), ClientEdit::AddSecret(new_secret()));

        assert_eq!(two.secrets.len(), 2);
        assert_eq!(third, Err(ClientError::TooManySecrets));
        let removed = decide(Some(&two), ClientEdit::RemoveSecret(two.secrets[0].id));
        let removed = removed.unwrap().unwrap();
        assert_eq!(removed.client.secrets, two.secrets[1..]);
        assert_eq!(removed.revocations.len(), 1, "the other secret keeps its tokens");
        let unknown = decide(Some(&two), ClientEdit::RemoveSecret(SecretId::random()));
        assert_eq!(unknown, Err(ClientError::NotFound));
    }

    #[test]
    fn edit_without_effect_changes_nothing() {
        let client = client("orders:read");

        for edit in [ClientEdit::Enable, ClientEdit::SetRights(client.rights.clone())] {
            assert_eq!(decide(Some(&client), edit), Ok(None));
        }
        assert_eq!(decide(None, ClientEdit::Disable), Err(ClientError::NotFound));
    }

    #[test]
    fn requester_grants_only_what_it_holds() {
        let client = client("orders:write");
        let held = Grantable::Held(Permissions::from_scope("orders:read"));
        let decide = |edit| change(client.id, edit).decide(Some(client.clone()), &held, NOW);

        for edit in [
            ClientEdit::SetRights(rights("orders:write keys:write")),
            ClientEdit::AddSecret(new_secret()),
            ClientEdit::Enable,
        ] {
            let refused = decide(edit);
            assert!(matches!(refused, Err(ClientError::PermissionsLacking(_))), "{refused:?}");
        }
        for edit in
            [ClientEdit::SetRights(rights("orders:read")), ClientEdit::Disable, ClientEdit::Delete]
        {
            assert!(decide(edit.clone()).is_ok(), "{edit:?}");
        }
        let edit = ClientEdit::Create(client.name.clone(), rights("orders:write"), new_secret());
        let refused = change(ClientId::random(), edit).decide(None, &held, NOW);
        assert!(matches!(refused, Err(ClientError::PermissionsLacking(_))), "{refused:?}");
    }
}
