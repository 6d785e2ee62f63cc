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
    /// The same, but with a reset, as from a machine that knows nothing of the connection.
    IsReset,
}

#[derive(Clone)]
struct Rule {
    traffic: Traffic,
    server: String,
}

/// A TCP proxy in front of Postgres, whose traffic the test decides about.
pub struct Proxy {
    rule: watch::Sender<Rule>,
    pub database: TestDatabase,
}

impl Proxy {
    pub async fn before(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let rule = Rule { traffic: Traffic::Flows, server: address_of(database) };
        let (rule, rules) = watch::channel(rule);
        actix_web::rt::spawn(accept(listener, rules));
        Self { rule, database: database.at_port(address.port()) }
    }

    pub fn set(&self, traffic: Traffic) {
        self.rule.send_modify(|rule| rule.traffic = traffic);
    }

    /// Cuts every connection, and leads new ones to another server.
    pub fn lead_to(&self, database: &TestDatabase) {
        self.rule.send_modify(|rule| rule.server = address_of(database));
    }
}

fn address_of(database: &TestDatabase) -> String {
    let options: PgConnectOptions = database.url().parse().expect("a URL");
    format!("{}:{}", options.get_host(), options.get_port())
}

async fn accept(listener: TcpListener, rules: watch::Receiver<Rule>) {
    while let Ok((client, _)) = listener.accept().await {
        let address = rules.borrow().server.clone();
        let Ok(server) = TcpStream::connect(&address).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        actix_web::rt::spawn(pipe(from_client, to_server, address.clone(), rules.clone()));
        actix_web::rt::spawn(pipe(from_server, to_client, address, rules.clone()));
    }
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    server: String,
    mut rules: watch::Receiver<Rule>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let rule = rules.borrow_and_update().clone();
        match rule.traffic {
            _ if rule.server != server => return,
            Traffic::IsCut => return,
            Traffic::IsReset => {
                // To close without lingering is to reset. Nothing is lost if it is closed already.
                let _ = to.as_ref().set_zero_linger();
                return;
            }
            Traffic::Stalls => {
                if rules.changed().await.is_err() {
                    return;
                }
            }
            Traffic::Flows => tokio::select! {
                changed = rules.changed() => if changed.is_err() { return },
                read = from.read(&mut buffer) => match read {
                    Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
                    _ => return,
                },
            },
        }
    }
}
