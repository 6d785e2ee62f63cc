//! The revocation feed.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::Method;
use reqwest::header::ACCEPT_ENCODING;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, decode_claims, on_both_databases};

on_both_databases![
    first_reply_is_complete_and_later_ones_are_not,
    complete_reply_is_compressed_once_and_decompressed_for_others,
];

/// A receiver of the feed of one application.
struct Receiver<'a> {
    app: &'a TestApp,
    token: String,
    cursor: Option<String>,
}

impl<'a> Receiver<'a> {
    async fn start(app: &'a TestApp, database: &TestDatabase) -> Self {
        let token = app.register_admin(database).await;
        Self { app, token, cursor: None }
    }

    /// Asks for the revocations after the latest reply. Adopts the new cursor.
    async fn ask(&mut self, wait: &str) -> Reply {
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}"));
        let path = format!("/revocations?wait={wait}&nonce=n-1{}", cursor.unwrap_or_default());
        let reply = self.app.send_with_token(Method::GET, &path, &self.token).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.cursor = reply.body["cursor"].as_str().map(str::to_owned);
        reply
    }
}

/// Returns the ids in a reply. One may come twice in a complete reply.
fn revoked_ids(body: &Value) -> BTreeSet<String> {
    let entries = body["revoked"].as_array().expect("a list").iter();
    entries.map(|entry| entry[0].as_str().expect("an id").to_owned()).collect()
}

async fn first_reply_is_complete_and_later_ones_are_not(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let sid = async |name| {
        let token = app.register_and_log_in(name).await;
        app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));
        decode_claims(&token)["sid"].as_str().unwrap().to_owned()
    };
    let first = sid("alice").await;

    let reply = receiver.ask("0").await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(revoked_ids(&reply.body), [first].into());
    assert_eq!(reply.body["complete"], true);
    assert_eq!(reply.body["nonce"], "n-1");
    assert_eq!(reply.body["bound_ms"], 5_000);

    let second = sid("bob").await;
    let mut seen = BTreeSet::new();
    while !seen.contains(&second) {
        let reply = receiver.ask("2").await;
        assert_eq!(reply.body["complete"], false);
        seen.extend(revoked_ids(&reply.body));
    }
    let reply = receiver.ask("0").await;
    assert_eq!(reply.body["revoked"], json!([]));
}

async fn complete_reply_is_compressed_once_and_decompressed_for_others(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let receiver = Receiver::start(&app, &database).await;
    let ask = async |encoding: &'static str| {
        let request = app.request(Method::GET, "/revocations").bearer_auth(&receiver.token);
        let reply = request.header(ACCEPT_ENCODING, encoding).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let encoding = reply.headers().get("content-encoding").cloned();
        (encoding, reply.bytes().await.unwrap())
    };
    for name in ["alice", "bob", "carol"] {
        let token = app.register_and_log_in(name).await;
        app.log_out(&token).await;

        let (encoding, compressed) = ask("gzip").await;
        assert_eq!(encoding.unwrap(), "gzip");
        let mut text = String::new();
        let mut decoder = GzDecoder::new(&compressed[..]);
        decoder.read_to_string(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "a single gzip member");
        let decompressed: Value = serde_json::from_str(&text).unwrap();

        let (encoding, plain) = ask("identity").await;
        assert_eq!(encoding, None);
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(plain["complete"], true);
        assert_eq!(revoked_ids(&plain), revoked_ids(&decompressed));
    }
}
