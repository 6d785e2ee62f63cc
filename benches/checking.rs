//! Microbenchmarks of the parts of a token check. The control is the signature alone.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::TokenSettings;
use portcullis::domain::{
    PasswordHash, Revocation, Role, Roles, SecretKey, SessionId, TokenId, User, UserId,
    UserVersion, Username,
};
use portcullis::revocation::Replica;
use portcullis::tokens::{KeyRing, RootKey, Tokens, VerifiedTokenCache};
use ring::hmac;

const KEY: &[u8] = &[7; 32];
const PHC: &str = "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                   AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn tokens() -> Tokens {
    let settings = TokenSettings {
        issuer: "portcullis".to_owned(),
        audience: Vec::new(),
        lifetime: Duration::from_hours(1),
        session_lifetime: Duration::from_hours(1),
        session_idle_timeout: None,
        sessions_per_user: 1_000,
        leeway: Duration::from_secs(5),
    };
    let ring = KeyRing::hs256(&SecretKey::parse(KEY).unwrap(), None).unwrap();
    Tokens::new(Arc::new(RootKey::generate().unwrap()), ring, settings).unwrap()
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
    let tokens = tokens();
    let user = alice();
    let session = SessionId::random();
    let now = SystemClock.now();
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
    let cache = VerifiedTokenCache::default();
    criterion.bench_function("token: verify from the cache", |bench| {
        bench.iter(|| cache.verify(&tokens, black_box(&token), now).unwrap());
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
        for revocation in &revoked {
            replica.apply(revocation, now);
        }
        replica.finish_read(replica.begin_read(), true);
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
