use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::geteuid;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{TestDatabase, eventually, free_port};

/// A PgBouncer in front of Postgres, in transaction mode and with two connections in total.
pub struct PgBouncer {
    pub database: TestDatabase,
    _process: Child,
    _folder: TempDir,
}

impl PgBouncer {
    pub async fn start(database: &TestDatabase) -> Self {
        let TestDatabase::Postgres { name, url } = database else {
            panic!("PgBouncer needs a Postgres database");
        };
        let server: PgConnectOptions = url.parse().expect("the database has a valid URL");
        let port = free_port();
        let settings = format!(
            "[databases]
             {name} = host={host} port={server_port} user={user}
             [pgbouncer]
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir =
             auth_type = any
             pool_mode = transaction
             default_pool_size = 2",
            host = server.get_host(),
            server_port = server.get_port(),
            user = server.get_username(),
        );
        let folder = tempfile::tempdir().expect("a temporary folder is created");
        let file = folder.path().join("pgbouncer.ini");
        let unindented = settings.replace("             ", "");
        fs::write(&file, unindented).expect("the settings are written");

        let mut command = Command::new("pgbouncer");
        if geteuid().is_root() {
            // PgBouncer refuses to run as root.
            let readable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder.path(), readable).expect("the folder is made readable");
            command.args(["-u", "nobody"]);
        }
        command.arg(file).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn();
        let process = process.expect("pgbouncer starts (tests/with-postgres.sh installs it)");
        let options = server.port(port).extra_float_digits(None);
        eventually("PgBouncer accepts a connection", async || options.connect().await.is_ok())
            .await;
        Self { database: database.with_port(port), _process: process, _folder: folder }
    }
}
