//! What a checked request consists of, piece by piece, beside the signature alone as the control.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::TokenSettings;
use portcullis::domain::{
    PasswordHash, Revocation, Role, Roles, SessionId, SigningKey, TokenId, User, UserId,
    UserVersion, Username,
};
use portcullis::revocation::Replica;
use portcullis::tokens::{Memo, Tokens};
use ring::hmac;

const KEY: &[u8] = &[7; 32];
const PHC: &str = "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                   AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn tokens() -> Tokens {
    let settings = TokenSettings {
        issuer: "portcullis".to_owned(),
        lifetime: Duration::from_hours(1),
        session_lifetime: Duration::from_hours(1),
        session_idle_timeout: None,
        leeway: Duration::from_secs(5),
    };
    Tokens::new(&SigningKey::parse(KEY).unwrap(), settings)
}

fn alice() -> User {
    User {
        id: UserId::random(),
        username: Username::parse("alice").unwrap(),
        roles: Roles::from_iter([Role::User]),
        created_at: SystemClock.now(),
        disabled_at: None,
        version: UserVersion::FIRST,
    }
}

fn token(criterion: &mut Criterion) {
    let (tokens, user, session, now) = (tokens(), alice(), SessionId::random(), SystemClock.now());
    let end = now + Duration::from_hours(1);
    let token = tokens.issue(&user, session, end, now).unwrap().access_token;
    let (message, _) = token.rsplit_once('.').unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);

    criterion.bench_function("token: the signature alone (control)", |bench| {
        bench.iter(|| hmac::sign(&key, black_box(message.as_bytes())));
    });
    criterion.bench_function("token: verify", |bench| {
        bench.iter(|| tokens.verify(black_box(&token), now).unwrap());
    });
    let memo = Memo::default();
    criterion.bench_function("token: verify again", |bench| {
        bench.iter(|| memo.verify(&tokens, black_box(&token), now).unwrap());
    });
    criterion.bench_function("token: issue", |bench| {
        bench.iter(|| tokens.issue(black_box(&user), session, end, now).unwrap());
    });
}

fn revocations(criterion: &mut Criterion) {
    let now = SystemClock.now();
    let expires_at = now + Duration::from_hours(1);
    for live in [0, 1_000_000] {
        let replica = Replica::new(2_000_000, Duration::from_hours(1), Arc::new(SystemClock));
        let revoked: Vec<_> =
            (0..live).map(|_| Revocation { id: TokenId::random().into(), expires_at }).collect();
        for one in &revoked {
            replica.apply(one, now);
        }
        replica.end_reading(replica.begin_reading(), true);
        let miss = [TokenId::random().into(), SessionId::random().into()];
        criterion.bench_function(&format!("revocations: miss among {live}"), |bench| {
            bench.iter(|| replica.check(black_box(miss)));
        });
        let Some(known) = revoked.first() else { continue };
        criterion.bench_function(&format!("revocations: hit among {live}"), |bench| {
            bench.iter(|| replica.check(black_box([known.id, known.id])));
        });
    }
}

fn password_hash(criterion: &mut Criterion) {
    criterion.bench_function("password hash: parse", |bench| {
        bench.iter(|| black_box(PHC).parse::<PasswordHash>().unwrap());
    });
}

criterion_group!(benches, token, revocations, password_hash);
criterion_main!(benches);
