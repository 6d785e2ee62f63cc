//! Checks of the database: what the durability of a logout and the start of the service depend on.

use std::time::Duration;

use super::finding::Finding;
use crate::config::{Database, DatabaseSettings, PoolMode};
use crate::store::{
    self, DatabaseFacts, Integrity, ListenerState, OpenError, OpenFailure, PostgresFacts,
    RoleFacts, StoreError,
};
use crate::telemetry::ErrorChain;

const REACHABLE: &str = "database.reachable";
const SCHEMA: &str = "database.schema";

/// Oldest supported major version of PostgreSQL.
const OLDEST_VERSION: i32 = 13;

/// Connections of an instance beside those of its pool: the follower, the listener, and the check of
/// a delay.
const FURTHER_CONNECTIONS: i64 = 3;

/// Returns the finding of a database that cannot be opened. A new SQLite file is made by the service.
pub(super) fn unopened(error: &OpenError) -> Finding {
    let unchecked = "its keys, accounts and clock are not checked";
    if let OpenFailure::Missing = error.cause {
        let message = format!("there is no database {} yet; {unchecked}", error.database);
        let advice = "the first start of the service creates it; if it should be there, see to \
                      DATABASE_URL (docs/settings.md)";
        return Finding::warning(REACHABLE, message, advice);
    }
    let advice = "see to DATABASE_URL, the network and the server \
                  (docs/operations.md#when-the-service-does-not-start)";
    Finding::error(REACHABLE, format!("{}; {unchecked}", ErrorChain(error)), advice)
}

/// Returns the finding of a database that has fallen silent.
pub(super) fn silent(timeout: Duration) -> Finding {
    let message = format!("the checks of the database have not ended within {timeout:?}");
    let advice = "see to the load and the locks of the server (docs/operations.md#probes)";
    Finding::error("database.response", message, advice)
}

/// Returns the finding of a schema that is missing, older or newer, or that cannot be read.
pub(super) fn unusable_schema(
    error: &OpenFailure,
    database: &Database,
    can_migrate: bool,
) -> Finding {
    let name = store::describe(database);
    let unchecked = "keys and accounts are not checked";
    let advice = "see docs/operations.md#upgrade";
    let text = format!("{name}: {}; {unchecked}", ErrorChain(error));
    match error {
        OpenFailure::Missing if can_migrate => Finding::warning(
            SCHEMA,
            format!("{name} has no tables yet; {unchecked}"),
            "the first start of the service as the owner, or `portcullis migrate`, creates them \
             (docs/operations.md#database-roles)",
        ),
        OpenFailure::Missing => Finding::error(
            SCHEMA,
            format!(
                "{name} has no tables that this role sees, and the role must not create them; \
                 {unchecked}"
            ),
            "run `portcullis migrate` as the owner of the database, and then \
             deploy/service-role.sql (docs/operations.md#database-roles)",
        ),
        OpenFailure::Older { .. } if can_migrate => Finding::warning(SCHEMA, text, advice),
        _ => Finding::error(SCHEMA, text, advice),
    }
}

/// Judges the facts about the server or the file.
pub(super) fn judge(
    facts: &Result<DatabaseFacts, StoreError>,
    settings: &DatabaseSettings,
) -> Vec<Finding> {
    let name = store::describe(&settings.database);
    let mut findings = vec![Finding::ok(REACHABLE, format!("opened {name}"))];
    match (facts, &settings.database) {
        (Ok(DatabaseFacts::Sqlite(integrity)), _) => findings.push(judge_integrity(integrity)),
        (Ok(DatabaseFacts::Postgres(facts)), Database::Postgres(postgres)) => {
            findings.extend(judge_server(facts));
            findings.extend(judge_role(&facts.role));
            findings.extend(judge_connections(facts, settings, postgres.pool_mode));
        }
        (Ok(DatabaseFacts::Postgres(_)), Database::Sqlite(_)) => {}
        (Err(error), database) => findings.push(unreadable(error, database)),
    }
    findings
}

fn unreadable(error: &StoreError, database: &Database) -> Finding {
    let advice = match database {
        Database::Postgres(_) => {
            "see to the server and to the limits of the role \
             (docs/operations.md#when-the-database-fails)"
        }
        Database::Sqlite(_) => {
            "if the file is damaged, restore it from a backup \
             (docs/operations.md#back-up-and-restore)"
        }
    };
    Finding::error("database.facts", ErrorChain(error).to_string(), advice)
}

fn judge_integrity(integrity: &Integrity) -> Finding {
    const CHECK: &str = "database.integrity";
    match integrity {
        Integrity::Sound => Finding::ok(CHECK, "the file is sound"),
        Integrity::Damaged(problem) => Finding::error(
            CHECK,
            format!("the file is damaged: {problem}"),
            "restore it from a backup (docs/operations.md#back-up-and-restore)",
        ),
        Integrity::Unfinished => Finding::warning(
            CHECK,
            "the check of the file takes too long, and was given up",
            "run `pragma quick_check` on a backup (docs/operations.md#back-up-and-restore)",
        ),
    }
}

/// Judges the settings of the server, or of the database or the role.
fn judge_server(facts: &PostgresFacts) -> Vec<Finding> {
    let mut findings = vec![version(facts), encoding(facts), writable(facts)];
    findings.extend(durability(facts));
    findings.push(standbys(facts));
    findings.push(isolation(facts));
    findings
}

fn version(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.version";
    if facts.major_version >= OLDEST_VERSION {
        return Finding::ok(CHECK, format!("PostgreSQL {}", facts.version));
    }
    Finding::error(
        CHECK,
        format!("PostgreSQL {} is too old: {OLDEST_VERSION} or later is needed", facts.version),
        "upgrade the server (docs/operations.md#upgrade)",
    )
}

fn encoding(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.encoding";
    if facts.encoding == "UTF8" {
        return Finding::ok(CHECK, "the encoding is UTF8");
    }
    Finding::error(
        CHECK,
        format!("the encoding is {}, and the service does not start", facts.encoding),
        "create the database anew with UTF8 (docs/operations.md#when-the-service-does-not-start)",
    )
}

fn writable(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.writable";
    let advice = "name the primary in DATABASE_URL, and turn default_transaction_read_only off \
                  (docs/operations.md#when-the-service-does-not-start)";
    if facts.is_replica {
        return Finding::error(CHECK, "the server is a replica, which accepts no writes", advice);
    }
    if facts.is_read_only {
        let message = "default_transaction_read_only is on, so every write fails";
        return Finding::error(CHECK, message, advice);
    }
    Finding::ok(CHECK, "the server accepts writes")
}

fn durability(facts: &PostgresFacts) -> Vec<Finding> {
    const CHECK: &str = "database.durability";
    let advice = "turn it on, for the server, the database and the role \
                  (docs/revocation.md#the-fault-model)";
    let findings: Vec<_> = [
        ("synchronous_commit", &facts.synchronous_commit, "a crash of the server loses logouts"),
        ("fsync", &facts.fsync, "a power cut loses logouts and can damage the database"),
        ("full_page_writes", &facts.full_page_writes, "a power cut can damage the database"),
    ]
    .into_iter()
    .filter(|(_, value, _)| *value == "off")
    .map(|(name, _, loss)| Finding::error(CHECK, format!("{name} is off: {loss}"), advice))
    .collect();
    if findings.is_empty() {
        return vec![Finding::ok(CHECK, "an acknowledged logout survives a crash of the server")];
    }
    findings
}

fn standbys(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.standbys";
    if facts.asynchronous_standbys > 0 && facts.synchronous_standbys == 0 {
        return Finding::warning(
            CHECK,
            "the only standbys are asynchronous: a failover to one loses the latest logouts",
            "make one synchronous (docs/revocation.md#the-fault-model)",
        );
    }
    if facts.synchronous_standbys > 0 && facts.synchronous_commit == "local" {
        return Finding::warning(
            CHECK,
            "synchronous_commit is local, so commits do not wait for the synchronous standbys",
            "set it to on (docs/revocation.md#the-fault-model)",
        );
    }
    Finding::ok(CHECK, "no visible standby is only asynchronous")
}

fn isolation(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.isolation";
    let isolation = &facts.isolation;
    if isolation == "read committed" {
        return Finding::ok(CHECK, format!("default_transaction_isolation is {isolation}"));
    }
    Finding::warning(
        CHECK,
        format!(
            "default_transaction_isolation is {isolation}: concurrent requests fail where they \
             would wait for each other"
        ),
        "set it to `read committed` for the role or the database \
         (docs/operations.md#when-the-database-fails)",
    )
}

fn judge_role(role: &RoleFacts) -> Vec<Finding> {
    const ROLE: &str = "database.role";
    const RIGHTS: &str = "database.rights";
    let name = &role.name;
    let advice = "run the service with the role of deploy/service-role.sql \
                  (docs/operations.md#database-roles)";
    let excess = if !role.attributes.is_empty() {
        let attributes = role.attributes.join(", ");
        Finding::warning(ROLE, format!("the role {name} has {attributes}"), advice)
    } else if role.owns_tables {
        Finding::warning(ROLE, format!("the role {name} owns the tables"), advice)
    } else if role.has_tables {
        Finding::ok(ROLE, format!("the role {name} can change rows only"))
    } else {
        Finding::ok(ROLE, format!("the role {name} has no attributes that it does not need"))
    };
    if !role.has_tables {
        return vec![excess];
    }
    let lack = if role.denied_tables.is_empty() {
        Finding::ok(RIGHTS, format!("the role {name} may read and write all tables"))
    } else {
        let tables = role.denied_tables.join(", ");
        Finding::error(
            RIGHTS,
            format!("the role {name} must not read and write the rows of {tables}"),
            "run deploy/service-role.sql after each migration (docs/operations.md#database-roles)",
        )
    };
    vec![excess, lack]
}

fn judge_connections(
    facts: &PostgresFacts,
    settings: &DatabaseSettings,
    mode: PoolMode,
) -> Vec<Finding> {
    let mut findings = vec![pool_mode(facts, mode), listener(facts), encryption(facts)];
    // Behind a pooler, its settings decide.
    if mode == PoolMode::Session {
        findings.push(connections(facts, settings));
    }
    findings
}

/// Compares the pool mode with that of the pooler, as far as it shows.
fn pool_mode(facts: &PostgresFacts, mode: PoolMode) -> Finding {
    const CHECK: &str = "database.pool_mode";
    match (mode, &facts.connection.shares_connections) {
        (_, Err(error)) => Finding::unchecked(CHECK, ErrorChain(error)),
        (PoolMode::Session, Ok(true)) => Finding::error(
            CHECK,
            "DATABASE_URL leads to a pooler in transaction mode, and DATABASE_POOL_MODE is session: \
             statements fail, and no logout is notified",
            "set DATABASE_POOL_MODE=transaction and DATABASE_LISTEN_URL \
             (docs/revocation.md#running-it-at-scale)",
        ),
        (PoolMode::Transaction, Ok(false)) => Finding::warning(
            CHECK,
            "DATABASE_POOL_MODE is transaction, and no pooler in that mode was noticed: statements \
             take more round trips than they need",
            "set DATABASE_POOL_MODE=session, unless the pooler is just busy \
             (docs/revocation.md#running-it-at-scale)",
        ),
        _ => Finding::ok(CHECK, "DATABASE_POOL_MODE suits the connections"),
    }
}

fn listener(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.listener";
    match &facts.connection.listener {
        ListenerState::Connects => Finding::ok(CHECK, "a connection can receive notifications"),
        ListenerState::Off => Finding::ok(
            CHECK,
            "DATABASE_LISTEN_URL is not set, so logouts of other instances are polled",
        ),
        ListenerState::Fails(error) => Finding::warning(
            CHECK,
            format!("failed to connect for notifications: {}", ErrorChain(error)),
            "see to DATABASE_LISTEN_URL; until then, logouts of other instances are polled \
             (docs/runbook.md#portcullisrevocationlistenerdown)",
        ),
    }
}

fn encryption(facts: &PostgresFacts) -> Finding {
    const CHECK: &str = "database.encryption";
    let connection = &facts.connection;
    let advice = "set sslmode=verify-full in DATABASE_URL, unless the network between them is \
                  private, as that of a Compose stack is (docs/settings.md)";
    if connection.is_local {
        return Finding::ok(CHECK, "DATABASE_URL names this machine");
    }
    if !connection.requires_encryption {
        let message = "sslmode does not require that the connection to the server is encrypted";
        return Finding::warning(CHECK, message, advice);
    }
    if !connection.verifies_certificate {
        let message =
            "the connection is encrypted, but the certificate of the server is not verified";
        return Finding::warning(CHECK, message, advice);
    }
    Finding::ok(CHECK, "the connection is encrypted, and the certificate is verified")
}

fn connections(facts: &PostgresFacts, settings: &DatabaseSettings) -> Finding {
    const CHECK: &str = "database.connections";
    let needed = i64::from(settings.max_connections) + FURTHER_CONNECTIONS;
    let limits = facts.limits;
    let limit = [Some(limits.server), limits.database, limits.role].into_iter().flatten().min();
    let limit = limit.unwrap_or(limits.server);
    if needed <= limit {
        let instances = limit / needed;
        let message = format!(
            "an instance takes up to {needed} of {limit} connections; instances that fit: {instances}"
        );
        return Finding::ok(CHECK, message);
    }
    Finding::warning(
        CHECK,
        format!("an instance takes up to {needed} connections, and only {limit} are allowed"),
        "lower DATABASE_MAX_CONNECTIONS, or raise the limit (docs/operations.md#how-much-it-takes)",
    )
}

/// Facts that a test server cannot have: an old version, another machine, TLS.
#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;
    use crate::store::{ConnectionFacts, ServerLimits};

    fn facts() -> PostgresFacts {
        PostgresFacts {
            version: "17.5".to_owned(),
            major_version: 17,
            encoding: "UTF8".to_owned(),
            is_replica: false,
            is_read_only: false,
            synchronous_commit: "on".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            isolation: "read committed".to_owned(),
            asynchronous_standbys: 0,
            synchronous_standbys: 0,
            connection: ConnectionFacts {
                is_local: false,
                requires_encryption: true,
                verifies_certificate: true,
                shares_connections: Ok(false),
                listener: ListenerState::Connects,
            },
            limits: ServerLimits { server: 97, database: None, role: None },
            role: RoleFacts {
                name: "portcullis_service".to_owned(),
                attributes: Vec::new(),
                may_create_tables: false,
                has_tables: true,
                owns_tables: false,
                denied_tables: Vec::new(),
            },
        }
    }

    #[test]
    fn old_server_is_an_error() {
        let severity =
            |major_version| version(&PostgresFacts { major_version, ..facts() }).severity;
        assert_eq!([12, 13].map(severity), [Severity::Error, Severity::Ok]);
    }

    #[test]
    fn connection_beyond_this_machine_is_encrypted_and_verified() {
        for (is_local, requires_encryption, verifies_certificate, severity) in [
            (false, true, true, Severity::Ok),
            (false, true, false, Severity::Warning),
            (false, false, false, Severity::Warning),
            (true, false, false, Severity::Ok),
        ] {
            let mut facts = facts();
            let connection = &mut facts.connection;
            connection.is_local = is_local;
            connection.requires_encryption = requires_encryption;
            connection.verifies_certificate = verifies_certificate;
            assert_eq!(encryption(&facts).severity, severity, "{:?}", facts.connection);
        }
    }

    #[test]
    fn commit_that_does_not_wait_for_a_synchronous_standby_is_found() {
        let severity = |value: &str| {
            let synchronous_commit = value.to_owned();
            standbys(&PostgresFacts { synchronous_standbys: 1, synchronous_commit, ..facts() })
                .severity
        };
        assert_eq!(["on", "local"].map(severity), [Severity::Ok, Severity::Warning]);
    }

    #[test]
    fn older_schema_is_an_error_where_the_role_must_not_migrate_it() {
        let database = Database::Sqlite("portcullis.db".into());
        let older = OpenFailure::Older { version: 14, needed: 15 };
        assert_eq!(unusable_schema(&older, &database, true).severity, Severity::Warning);
        assert_eq!(unusable_schema(&older, &database, false).severity, Severity::Error);
    }
}
