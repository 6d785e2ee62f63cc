use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::geteuid;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{TestDatabase, eventually, free_port};

/// A pooler in front of Postgres that has two connections for everybody, and lends one for the length
/// of a transaction.
pub struct PgBouncer {
    pub database: TestDatabase,
    _process: Child,
    _folder: TempDir,
}

impl PgBouncer {
    pub async fn before(database: &TestDatabase) -> Self {
        let TestDatabase::Postgres { name, url } = database else { panic!("SQLite has no socket") };
        let server: PgConnectOptions = url.parse().expect("a URL");
        let port = free_port();
        let (host, server_port) = (server.get_host(), server.get_port());
        let user = server.get_username();
        let settings = format!(
            "[databases]
             {name} = host={host} port={server_port} user={user}
             [pgbouncer]
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir =
             auth_type = any
             pool_mode = transaction
             default_pool_size = 2"
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings.replace("             ", "")).expect("a file is written");

        let mut command = Command::new("pgbouncer");
        if geteuid().is_root() {
            // It refuses to be root.
            let readable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder.path(), readable).expect("a folder of our own");
            command.args(["-u", "nobody"]);
        }
        let quiet = command.arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = quiet.kill_on_drop(true).spawn();
        let process = process.expect("pgbouncer starts: tests/with-postgres.sh installs it");
        let options = server.port(port).extra_float_digits(None);
        eventually("the pooler", async || options.connect().await.is_ok()).await;
        let database = database.at_port(port);
        Self { database, _process: process, _folder: folder }
    }
}
