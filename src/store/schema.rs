//! The schema of the database, compared with the migrations that this program knows.

use std::collections::HashMap;

use sqlx::SqlSafeStr;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::error::OpenFailure;

/// Treatment of a database that is missing or has an older schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaPolicy {
    /// It is created or migrated.
    Migrate,
    /// A missing one is created; an older one is refused.
    Create,
    /// It is refused.
    Require,
    /// A missing file is refused, and any schema is left as it is. The database must not be written.
    Inspect,
}

/// State of a schema that is not newer than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemaState {
    Missing,
    /// Contains the version.
    Older(i64),
    Current,
}

/// Migrations of one dialect.
pub(super) struct Migrations(Migrator);

impl Migrations {
    /// Takes the version, description and SQL of each migration.
    pub(super) fn new(scripts: &[(i64, &'static str, &'static str)]) -> Self {
        let migrations = scripts.iter().map(|&(version, description, sql)| {
            let sql = sql.into_sql_str();
            Migration::new(version, description.into(), MigrationType::Simple, sql, false)
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        // Each dialect has a lock of its own.
        migrator.set_locking(false);
        Self(migrator)
    }

    /// Compares the migrations that a database has with the known ones.
    pub(super) fn state(&self, applied: &[AppliedMigration]) -> Result<SchemaState, OpenFailure> {
        let Some(version) = applied.iter().map(|applied| applied.version).max() else {
            return Ok(SchemaState::Missing);
        };
        let known = self.latest();
        if version > known {
            return Err(OpenFailure::Newer { version, known });
        }
        let applied: HashMap<_, _> =
            applied.iter().map(|applied| (applied.version, &applied.checksum)).collect();
        for migration in self.0.iter() {
            match applied.get(&migration.version) {
                None => return Ok(SchemaState::Older(version)),
                Some(&checksum) if *checksum != migration.checksum => {
                    return Err(MigrateError::VersionMismatch(migration.version).into());
                }
                Some(_) => {}
            }
        }
        Ok(SchemaState::Current)
    }

    /// Returns `true` if a schema is to be created or migrated.
    ///
    /// # Errors
    /// Returns an error if the policy refuses it.
    pub(super) fn must_run(
        &self,
        state: SchemaState,
        policy: SchemaPolicy,
    ) -> Result<bool, OpenFailure> {
        match (policy, state) {
            (_, SchemaState::Current) => Ok(false),
            (SchemaPolicy::Migrate, _) | (SchemaPolicy::Create, SchemaState::Missing) => Ok(true),
            _ => self.require(state).map(|()| false),
        }
    }

    /// Refuses a schema that is missing or older.
    pub(super) fn require(&self, state: SchemaState) -> Result<(), OpenFailure> {
        match state {
            SchemaState::Missing => Err(OpenFailure::Missing),
            SchemaState::Older(version) => {
                Err(OpenFailure::Older { version, needed: self.latest() })
            }
            SchemaState::Current => Ok(()),
        }
    }

    /// Reports the migration of a schema.
    pub(super) fn report(&self, state: SchemaState, report: &(dyn Fn(&str) + Sync)) {
        let version = self.latest();
        match state {
            SchemaState::Missing => {
                report(&format!("the database is new: creating its schema, version {version}"));
            }
            SchemaState::Older(from) => {
                report(&format!("migrating the schema from version {from} to {version}"));
            }
            SchemaState::Current => {}
        }
    }

    /// Applies the migrations that are missing. The caller holds the lock.
    pub(super) async fn run(&self, connection: &mut impl Migrate) -> Result<(), OpenFailure> {
        Ok(self.0.run_direct(None, connection, false).await?)
    }

    /// Returns the version of the newest migration.
    fn latest(&self) -> i64 {
        self.0.iter().map(|migration| migration.version).max().unwrap_or_default()
    }
}
