use std::net::SocketAddr;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TestDatabase;

/// What a proxy does with the connections through it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Flows,
    /// Nothing gets through, and nobody is told.
    Stalls,
    /// Every connection is closed, and every new one at once.
    IsCut,
}

/// A TCP proxy in front of Postgres, whose traffic the test decides about.
pub struct Proxy {
    traffic: watch::Sender<Traffic>,
    pub database: TestDatabase,
}

impl Proxy {
    pub async fn before(database: &TestDatabase) -> Self {
        let TestDatabase::Postgres { name, url } = database else { panic!("SQLite has no socket") };
        let options: PgConnectOptions = url.parse().expect("a URL");
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (traffic, rule) = watch::channel(Traffic::Flows);
        actix_web::rt::spawn(accept(listener, server, rule));
        Self {
            traffic,
            database: TestDatabase::Postgres { name: name.clone(), url: through(options, address) },
        }
    }

    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

fn through(options: PgConnectOptions, proxy: SocketAddr) -> String {
    options.host(&proxy.ip().to_string()).port(proxy.port()).to_url_lossy().to_string()
}

async fn accept(listener: TcpListener, server: String, rule: watch::Receiver<Traffic>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&server).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        actix_web::rt::spawn(pipe(from_client, to_server, rule.clone()));
        actix_web::rt::spawn(pipe(from_server, to_client, rule.clone()));
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut rule: watch::Receiver<Traffic>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let traffic = *rule.borrow_and_update();
        match traffic {
            Traffic::IsCut => return,
            Traffic::Stalls => {
                if rule.changed().await.is_err() {
                    return;
                }
            }
            Traffic::Flows => tokio::select! {
                changed = rule.changed() => if changed.is_err() { return },
                read = from.read(&mut buffer) => match read {
                    Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
                    _ => return,
                },
            },
        }
    }
}
