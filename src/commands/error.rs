//! Errors of the commands and their exit codes.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::domain::{
    AccountError, AudienceError, ClientError, ClientNameError, ExternalIdError, KeyError,
    KeyIdError, MetadataError, PasswordError, PermissionError, RoleError, RoleNameError, UserId,
    Username, UsernameError,
};
use crate::hashing::HashingError;
use crate::keys::{KeysError, OpenKeysError};
use crate::store::{
    BackupError, ClientWriteError, CopyError, OpenError, RoleWriteError, StoreError, WriteError,
};

/// Exit code that shells report for a program that ends because the reader of its output has gone:
/// 128 and the number of SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Failure of a command.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The external id is invalid.
    #[error(transparent)]
    ExternalId(#[from] ExternalIdError),
    /// The metadata are invalid.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Rows of an import were refused, and the others were imported.
    #[error("{0} rows were refused")]
    RowsRefused(u64),
    /// `doctor` found errors.
    #[error("the deployment has errors")]
    FoundErrors,
    /// `doctor --strict` found warnings and no errors.
    #[error("the deployment has warnings")]
    FoundWarnings,
    /// Accounts do not parse, and the others were exported.
    #[error("{0} accounts were left out: they do not parse")]
    AccountsLeftOut(u64),
    /// The username is invalid.
    #[error("bad username")]
    Username(#[from] UsernameError),
    /// The password is invalid.
    #[error("bad password")]
    Password(#[from] PasswordError),
    /// The name of a role is invalid.
    #[error("bad role")]
    Role(#[from] RoleNameError),
    /// The permission is invalid.
    #[error("bad permission")]
    Permission(#[from] PermissionError),
    /// The repeated password differs from the first one.
    #[error("the passwords differ")]
    PasswordsDiffer,
    /// The action needs `--yes`, since there is no terminal to ask on.
    #[error("to {0}, add --yes: there is no terminal to ask on")]
    NotConfirmed(String),
    /// The action was not confirmed.
    #[error("nothing was changed")]
    Declined,
    /// The text is the id of one account and the username of another.
    #[error(
        "`{user}` is the id of the account `{}`, and the username of another, whose id is {id}: use \
         either of these",
        username.as_str()
    )]
    Ambiguous {
        /// The text.
        user: String,
        /// Username of the account with this id.
        username: Username,
        /// Id of the account with this username.
        id: UserId,
    },
    /// No account has this id or username.
    #[error("there is no account `{0}`")]
    NoSuchUser(String),
    /// The account cannot be created or changed.
    #[error(transparent)]
    Account(AccountError),
    /// The role cannot be changed.
    #[error(transparent)]
    RoleChange(RoleError),
    /// The name is not one of a client.
    #[error("bad client")]
    ClientName(#[from] ClientNameError),
    /// The audience is not offered.
    #[error("bad audience")]
    Audience(#[from] AudienceError),
    /// The text is not a time.
    #[error("a time has the format of RFC 3339, such as 2027-05-01T09:30:00Z")]
    Time,
    /// The client cannot be changed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The id is not one of a key.
    #[error("bad key")]
    KeyId(#[from] KeyIdError),
    /// The keys cannot be changed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The keys cannot be opened.
    #[error("failed to open the keys in the database")]
    OpenKeys(#[from] OpenKeysError),
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The database could not be backed up.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The password could not be hashed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// Standard input, standard output or the random number generator failed.
    #[error("input or output failed")]
    Io(#[from] io::Error),
}

impl CommandError {
    /// Returns `true` if the reader of the output has gone, as in `portcullis user list | head -1`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the exit code of the program: 2 for invalid arguments, 3 if there is no such
    /// account, role or key, 4 for a conflict with its state, 5 if a part was left out, 6 for
    /// warnings of `doctor --strict`, 141 if the reader of the output has gone, 1 for all other
    /// failures.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::FoundWarnings => 6,
            Self::RowsRefused(_) | Self::AccountsLeftOut(_) => 5,
            Self::Username(_)
            | Self::ExternalId(_)
            | Self::Metadata(_)
            | Self::Password(_)
            | Self::Role(_)
            | Self::Permission(_)
            | Self::Account(AccountError::UnknownRoles { .. })
            | Self::KeyId(_)
            | Self::ClientName(_)
            | Self::Audience(_)
            | Self::Time
            | Self::Copy(CopyError::SameDatabase)
            | Self::Backup(BackupError::Postgres)
            | Self::PasswordsDiffer
            | Self::Ambiguous { .. }
            | Self::NotConfirmed(_) => 2,
            Self::NoSuchUser(_)
            | Self::Account(AccountError::NotFound)
            | Self::Client(ClientError::NotFound)
            | Self::RoleChange(RoleError::NotFound)
            | Self::Keys(KeysError::Key(KeyError::NotFound)) => 3,
            Self::Account(
                AccountError::UsernameTaken
                | AccountError::ExternalIdTaken
                | AccountError::LastAdmin
                | AccountError::Disabled,
            )
            | Self::Client(ClientError::NameTaken | ClientError::TooManySecrets)
            | Self::Copy(CopyError::InUse(_) | CopyError::NotEmpty { .. })
            | Self::Backup(BackupError::Exists(_))
            | Self::RoleChange(RoleError::BuiltIn | RoleError::InUse)
            | Self::Keys(KeysError::Key(KeyError::TooEarly(_) | KeyError::NotUsed)) => 4,
            _ if self.is_broken_pipe() => BROKEN_PIPE,
            _ => 1,
        }
        .into()
    }
}

impl From<ClientWriteError> for CommandError {
    fn from(error: ClientWriteError) -> Self {
        match error {
            ClientWriteError::Client(error) => Self::Client(error),
            ClientWriteError::Store(error) => Self::Store(error),
        }
    }
}

impl From<RoleWriteError> for CommandError {
    fn from(error: RoleWriteError) -> Self {
        match error {
            RoleWriteError::Role(error) => Self::RoleChange(error),
            RoleWriteError::Store(error) => Self::Store(error),
        }
    }
}

impl From<WriteError> for CommandError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Account(error) => Self::Account(error),
            WriteError::Store(error) => Self::Store(error),
        }
    }
}
