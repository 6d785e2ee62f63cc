//! Facts about the server on PostgreSQL.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{ConnectOptions, Connection, Row, raw_sql};
use time::OffsetDateTime;

use super::columns::time_column;
use super::database::{PostgresStore, require_current_schema};
use crate::store::error::{OpenFailure, StoreError};
use crate::store::feed::with_timeout;
use crate::store::inspection::{
    AccountFacts, ConnectionFacts, DatabaseFacts, InspectionStore, ListenerState, PostgresFacts,
    RoleFacts, ServerLimits, SharedSettings,
};

/// Selects the facts about the server. Lists are separated by spaces.
const SELECT_FACTS: &str = "
    with tables as (
        select oid, relname, relowner from pg_class
        where relkind = 'r'
          and relnamespace = (
              select relnamespace from pg_class where oid = to_regclass('_sqlx_migrations'))
    )
    select current_setting('server_version') as version,
           current_setting('server_version_num')::integer / 10000 as major_version,
           current_setting('server_encoding') as encoding,
           pg_is_in_recovery() as is_replica,
           current_setting('default_transaction_read_only')::boolean as is_read_only,
           current_setting('synchronous_commit') as synchronous_commit,
           current_setting('fsync') as fsync,
           current_setting('full_page_writes') as full_page_writes,
           current_setting('default_transaction_isolation') as isolation,
           (select count(*) from pg_stat_replication where sync_state = 'async')
               as asynchronous_standbys,
           (select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum'))
               as synchronous_standbys,
           current_setting('max_connections')::bigint
               - current_setting('superuser_reserved_connections')::bigint
               - coalesce(current_setting('reserved_connections', true), '0')::bigint
               as server_limit,
           (select nullif(datconnlimit, -1)::bigint from pg_database
            where datname = current_database()) as database_limit,
           nullif(rolconnlimit, -1)::bigint as role_limit,
           rolname::text as role,
           concat_ws(' ', case when rolsuper then 'SUPERUSER' end,
                          case when rolcreaterole then 'CREATEROLE' end,
                          case when rolcreatedb then 'CREATEDB' end,
                          case when rolreplication then 'REPLICATION' end,
                          case when rolbypassrls then 'BYPASSRLS' end) as attributes,
           coalesce(has_schema_privilege(current_schema(), 'create'), false)
               as may_create_tables,
           exists (select from tables) as has_tables,
           exists (select from tables where pg_has_role(relowner, 'usage')) as owns_tables,
           (select coalesce(string_agg(relname, ' ' order by relname), '') from tables
            where not (has_table_privilege(oid, 'select')
                       and (relname = '_sqlx_migrations'
                            or has_table_privilege(oid, 'insert')
                               and has_table_privilege(oid, 'update')
                               and has_table_privilege(oid, 'delete')))) as denied_tables
    from pg_roles where rolname = current_user";

/// Number of times that each of two connections asks for its server connection.
const ROUNDS: usize = 3;

#[async_trait]
impl InspectionStore for PostgresStore {
    async fn check_schema(&self) -> Result<(), OpenFailure> {
        let mut lease = self.executor.lease().await?;
        require_current_schema(lease.connection()?).await?;
        lease.give_back();
        Ok(())
    }

    async fn inspect(&self) -> Result<DatabaseFacts, StoreError> {
        let row = self.fetch_one(SELECT_FACTS).await?;
        let shares_connections = self.shares_connections().await;
        let listener = self.listener_state().await;
        Ok(DatabaseFacts::Postgres(Box::new(PostgresFacts {
            version: row.try_get("version")?,
            major_version: row.try_get("major_version")?,
            encoding: row.try_get("encoding")?,
            is_replica: row.try_get("is_replica")?,
            is_read_only: row.try_get("is_read_only")?,
            synchronous_commit: row.try_get("synchronous_commit")?,
            fsync: row.try_get("fsync")?,
            full_page_writes: row.try_get("full_page_writes")?,
            isolation: row.try_get("isolation")?,
            asynchronous_standbys: row.try_get("asynchronous_standbys")?,
            synchronous_standbys: row.try_get("synchronous_standbys")?,
            connection: connection_facts(&self.options, shares_connections, listener),
            limits: ServerLimits {
                server: row.try_get("server_limit")?,
                database: row.try_get("database_limit")?,
                role: row.try_get("role_limit")?,
            },
            role: role_facts(&row)?,
        })))
    }

    async fn database_time(&self) -> Result<OffsetDateTime, StoreError> {
        let select = self.executor.query("select clock_timestamp() as now");
        time_column(&select.fetch_one(&self.executor).await?, "pg_catalog", "now")
    }

    async fn shared_settings(&self) -> Result<SharedSettings, StoreError> {
        let row = self.fetch_one("select issuer, algorithm from shared_state").await?;
        Ok(SharedSettings { issuer: row.try_get("issuer")?, algorithm: row.try_get("algorithm")? })
    }

    async fn account_facts(&self) -> Result<AccountFacts, StoreError> {
        let select = "select (select count(*) from users
                              where 'admin' = any (roles) and disabled_at is null)
                                as administrators,
                             (select count(*) from users
                              where hash_cost not like 'pbkdf2-sha256:%') as foreign_hashes";
        let row = self.fetch_one(select).await?;
        Ok(AccountFacts {
            administrators: row.try_get("administrators")?,
            foreign_hashes: row.try_get("foreign_hashes")?,
        })
    }
}

impl PostgresStore {
    /// Fetches the row of a statement without parameters.
    async fn fetch_one(&self, select: &'static str) -> Result<PgRow, StoreError> {
        let mut lease = self.executor.lease().await?;
        let row = raw_sql(select).fetch_one(lease.connection()?).await?;
        lease.give_back();
        Ok(row)
    }

    async fn listener_state(&self) -> ListenerState {
        let Some(options) = &self.listen_options else { return ListenerState::Off };
        let connect = async { options.connect().await?.close().await };
        match with_timeout(self.acquire_timeout(), connect).await {
            Ok(()) => ListenerState::Connects,
            Err(error) => ListenerState::Fails(error),
        }
    }

    fn acquire_timeout(&self) -> Duration {
        self.executor.pool.options().get_acquire_timeout()
    }

    /// Returns `true` if two connections that are open at the same time, and used in turn, have had
    /// the same server connection. A pooler in transaction mode prefers the one used last.
    async fn shares_connections(&self) -> Result<bool, StoreError> {
        let compare = async {
            let mut connections = [self.options.connect().await?, self.options.connect().await?];
            let mut is_shared = false;
            for _ in 0..ROUNDS {
                let [one, other] = &mut connections;
                is_shared |= server_process(one).await? == server_process(other).await?;
            }
            for connection in connections {
                connection.close().await?;
            }
            Ok::<_, sqlx::Error>(is_shared)
        };
        with_timeout(self.acquire_timeout(), compare).await
    }
}

/// Returns the id of the server process of a connection.
async fn server_process(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Returns the facts about the connections. The server itself only knows the connection that reaches
/// it, which can be that of a pooler.
fn connection_facts(
    options: &PgConnectOptions,
    shares_connections: Result<bool, StoreError>,
    listener: ListenerState,
) -> ConnectionFacts {
    use PgSslMode::{Require, VerifyCa, VerifyFull};
    let ssl_mode = options.get_ssl_mode();
    ConnectionFacts {
        is_local: is_local(options),
        requires_encryption: matches!(ssl_mode, Require | VerifyCa | VerifyFull),
        verifies_certificate: matches!(ssl_mode, VerifyCa | VerifyFull),
        shares_connections,
        listener,
    }
}

/// Returns `true` for a Unix socket, a loopback address and `localhost`.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical());
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.is_loopback())
}

fn role_facts(row: &PgRow) -> Result<RoleFacts, sqlx::Error> {
    let words = |column| {
        let text: String = row.try_get(column)?;
        Ok::<_, sqlx::Error>(text.split_ascii_whitespace().map(str::to_owned).collect())
    };
    Ok(RoleFacts {
        name: row.try_get("role")?,
        attributes: words("attributes")?,
        may_create_tables: row.try_get("may_create_tables")?,
        has_tables: row.try_get("has_tables")?,
        owns_tables: row.try_get("owns_tables")?,
        denied_tables: words("denied_tables")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::database::connect_options;
    use super::*;
    use crate::config::Secret;

    fn facts(url: &str) -> ConnectionFacts {
        let options = connect_options(&Secret::new(url.to_owned())).unwrap();
        connection_facts(&options, Ok(false), ListenerState::Off)
    }

    #[test]
    fn host_of_the_url_tells_whether_the_connection_stays_on_this_machine() {
        for (host, is_local) in [
            ("localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("%2Fvar%2Frun%2Fpostgresql", true),
            ("db", false),
            ("192.0.2.1", false),
            ("[2001:db8::1]", false),
        ] {
            assert_eq!(facts(&format!("postgres://u@{host}/d")).is_local, is_local, "{host}");
        }
    }

    #[test]
    fn sslmode_tells_whether_the_connection_is_encrypted_and_verified() {
        for (mode, requires_encryption, verifies_certificate) in [
            ("disable", false, false),
            ("prefer", false, false),
            ("require", true, false),
            ("verify-ca", true, true),
            ("verify-full", true, true),
        ] {
            let facts = facts(&format!("postgres://u@db/d?sslmode={mode}"));
            assert_eq!(facts.requires_encryption, requires_encryption, "{mode}");
            assert_eq!(facts.verifies_certificate, verifies_certificate, "{mode}");
        }
    }
}
