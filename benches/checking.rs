//! Microbenchmarks of the parts of a token check. The control is the signature alone.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::{SigningAlgorithm, TokenSettings};
use portcullis::domain::{
    Audience, KeyChange, KeyEdit, KeyPeriods, KeySet, Metadata, PasswordHash, Permission,
    Permissions, Requester, Revocation, RoleName, Roles, SecretKey, SessionId, TokenId, User,
    UserId, UserVersion, Username,
};
use portcullis::revocation::Replica;
use portcullis::tokens::{KeyRing, RootKey, Tokens, VerifiedTokenCache, generate_key};
use ring::hmac;

const KEY: &[u8] = &[7; 32];
/// Default memory for verified tokens, and the workers that share it.
const CACHE_SIZE: usize = 64 * 1024 * 1024;
const WORKERS: usize = 2;
const PHC: &str = "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                   AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn tokens(algorithm: SigningAlgorithm, cache_size: usize) -> Tokens {
    let settings = TokenSettings {
        issuer: "portcullis".to_owned(),
        audience: Audience::new(Vec::new()),
        lifetime: Duration::from_hours(1),
        session_lifetime: Duration::from_hours(1),
        session_idle_timeout: None,
        sessions_per_user: 1_000,
        leeway: Duration::from_secs(5),
        cache_size,
    };
    let root = RootKey::generate().unwrap();
    let ring = match algorithm {
        SigningAlgorithm::Es256 => KeyRing::es256(&first_keys(&root), &root),
        SigningAlgorithm::Hs256 => KeyRing::hs256(&SecretKey::parse(KEY).unwrap(), None).unwrap(),
    };
    Tokens::new(Arc::new(root), ring, settings).unwrap()
}

fn first_keys(root: &RootKey) -> KeySet {
    let now = SystemClock.now();
    let periods =
        KeyPeriods { publication: Duration::ZERO, token_lifetime: Duration::from_hours(24) };
    let edit = KeyEdit::Provide([(); 2].map(|()| generate_key(root).unwrap()));
    let start = KeyChange { edit, periods, at: now, requester: Requester::SERVICE };
    start.decide(KeySet::default(), now).unwrap().unwrap().set
}

fn alice() -> User {
    User {
        id: UserId::random(),
        username: Username::parse("alice").unwrap(),
        roles: Roles::from_iter([RoleName::USER]),
        permissions: Permissions::from_iter([Permission::DASHBOARD_READ]),
        external_id: None,
        metadata: Metadata::default(),
        created_at: SystemClock.now(),
        disabled_at: None,
        version: UserVersion::FIRST,
    }
}

const ALGORITHMS: [(&str, SigningAlgorithm); 2] =
    [("HS256", SigningAlgorithm::Hs256), ("ES256", SigningAlgorithm::Es256)];

fn token(criterion: &mut Criterion) {
    let tokens = tokens(SigningAlgorithm::Hs256, 0);
    let user = alice();
    let session = SessionId::random();
    let now = SystemClock.now();
    let end = now + Duration::from_hours(1);
    let token = tokens.issue(&user, session, None, end, now).unwrap().access_token;
    let (message, _) = token.rsplit_once('.').unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);

    criterion.bench_function("token: the signature alone (control)", |bench| {
        bench.iter(|| hmac::sign(&key, black_box(message.as_bytes())));
    });
    for (name, algorithm) in ALGORITHMS {
        let tokens = self::tokens(algorithm, 0);
        let token = tokens.issue(&user, session, None, end, now).unwrap().access_token;
        criterion.bench_function(&format!("token: verify {name}"), |bench| {
            bench.iter(|| tokens.verify(black_box(&token), now).unwrap());
        });
        let cache = VerifiedTokenCache::new(CACHE_SIZE / WORKERS);
        criterion.bench_function(&format!("token: verify {name} from the cache"), |bench| {
            bench.iter(|| cache.verify(&tokens, black_box(&token), now).unwrap());
        });
        criterion.bench_function(&format!("token: issue {name}"), |bench| {
            bench.iter(|| tokens.issue(black_box(&user), session, None, end, now).unwrap());
        });
    }
}

/// Verifies tokens in turn. The controls verify as many without a cache, since reading many tokens
/// takes longer, too.
fn token_cache(criterion: &mut Criterion) {
    for (name, algorithm) in ALGORITHMS {
        for count in [500, 50_000, 500_000] {
            bench_in_turn(
                criterion,
                &format!("{count} of {name} in turn, no cache (control)"),
                &tokens(algorithm, 0),
                count,
            );
            bench_in_turn(
                criterion,
                &format!("{count} of {name} in turn"),
                &tokens(algorithm, CACHE_SIZE),
                count,
            );
        }
        let tokens = tokens(algorithm, CACHE_SIZE / 64);
        bench_in_turn(criterion, &format!("misses of full caches, {name}"), &tokens, 500_000);
    }
}

fn bench_in_turn(criterion: &mut Criterion, name: &str, tokens: &Tokens, count: usize) {
    let user = alice();
    let now = SystemClock.now();
    let end = now + Duration::from_hours(1);
    let issue = || tokens.issue(&user, SessionId::random(), None, end, now).unwrap().access_token;
    let issued: Vec<_> = iter::repeat_with(issue).take(count).collect();
    let cache = VerifiedTokenCache::new(tokens.token_cache_size() / WORKERS);
    let mut in_turn = issued.iter().cycle();
    let mut verify = || cache.verify(tokens, in_turn.next().unwrap(), now).unwrap();
    // Several rounds, since a full cache admits few tokens.
    let rounds = if tokens.token_cache_size() == 0 { 0 } else { 1_000_000 };
    for _ in 0..rounds {
        verify();
    }
    criterion.bench_function(&format!("token cache: {name}"), |bench| bench.iter(&mut verify));
}

fn revocations(criterion: &mut Criterion) {
    let now = SystemClock.now();
    let expires_at = now + Duration::from_hours(1);
    for live in [0, 1_000_000] {
        let replica = Replica::new(4_000_000, Duration::from_hours(1), Arc::new(SystemClock));
        let revoked: Vec<_> =
            (0..live).map(|_| Revocation { id: TokenId::random().into(), expires_at }).collect();
        for revocation in &revoked {
            replica.apply(revocation, now);
        }
        replica.finish_read(replica.begin_read(), true);
        // Many in turn: one alone would or would not pass the filter.
        let others: Vec<_> =
            iter::repeat_with(|| [(); 3].map(|()| TokenId::random().into())).take(4_096).collect();
        let mut in_turn = others.iter().cycle();
        criterion.bench_function(&format!("revocations: misses among {live}"), |bench| {
            bench.iter(|| replica.check(black_box(*in_turn.next().unwrap())));
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

criterion_group!(benches, token, token_cache, revocations, password_hash);
criterion_main!(benches);
