//! The command line and the checked settings. No other module reads the environment.

mod check;
mod cli;
mod command;
mod completions;
mod database_url;
mod env_file;
mod names;
mod settings;
mod values;
mod version;

pub use cli::{Cli, RawSettings};
pub use command::{
    ClientArgs, ClientCommand, ClientRightsArgs, Command, CopyArgs, DatabaseCommand, DoctorArgs,
    ExportArgs, HashFormat, ImportArgs, KeyArgs, KeyCommand, RoleArgs, RoleCommand, RowFormat,
    SecretCommand, Shell, UserArgs, UserCommand, UserFilterArgs,
};
pub use completions::completions;
pub use env_file::is_readable_by_others;
pub use settings::{
    Config, ConfigError, CopyConfig, Database, DatabaseSettings, HashSettings, HttpSettings,
    KeySettings, ListenAddress, LogFormat, LogSettings, ManagementConfig, NetworkSettings,
    PoolMode, PostgresSettings, Rate, RevocationSettings, Secret, SecretFile, SecretKeySource,
    SigningAlgorithm, ThrottleSettings, TokenSettings, Warning,
};
pub use values::human_duration;
pub use version::{COMMIT, VERSION};
