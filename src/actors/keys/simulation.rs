//! Simulation of the signing keys: the real decisions, maintenance, follower and tokens of several
//! instances run in virtual time against a model of the database. Its statements are slow, fail or
//! lose their reply although they were committed; instances are frozen, cut off and killed. Keys
//! rotate and are revoked at random, and the database is restored from a copy. Verifiers fetch the
//! keys from the instance that knows least, some through a cache; all keep them for exactly the
//! max-age of that instance. The properties are those of
//! `docs/keys.md`.
//!
//! A schedule is determined by its seed.

mod database;
mod host;
mod instance;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use time::macros::datetime;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use database::{BOUND, Property, Variant, Violation, World};
use host::Host;
use instance::{Instance, MAX_AGE, Operation, Shared, Token};

use crate::config::{KeySettings, SecretKeySource, SigningAlgorithm};
use crate::domain::{KeyState, MAX_LEEWAY, RoleName, Roles, SecretKey, User, Username, WrappedKey};
use crate::metrics::Metrics;
use crate::tokens::{RootKey, test_settings};

const LENGTH: Duration = Duration::from_mins(90);
/// Mean time between two steps of a schedule.
const STEP: Duration = Duration::from_secs(30);
const VERIFIERS: usize = 6;
/// Time from a commit until every verifier knows of it.
const PUBLICATION: Duration = Duration::from_mins(13);

/// Public keys that a verifier or a cache has fetched.
#[derive(Clone)]
struct FetchedKeys {
    body: String,
    /// Time of the request.
    sent_at: Duration,
    max_age: Duration,
}

impl FetchedKeys {
    fn is_usable(&self, at: Duration) -> bool {
        at < self.sent_at + self.max_age
    }
}

/// State of a schedule.
struct Simulation {
    world: Arc<World>,
    instances: Vec<Rc<Instance>>,
    verifiers: Vec<Option<FetchedKeys>>,
    cache: Option<FetchedKeys>,
    tokens: Vec<Rc<Token>>,
    rng: Rng,
}

impl Simulation {
    fn new(variant: Variant, seed: u64, environment: &Environment) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = Arc::new(World::new(variant, environment.wrapped.clone()));
        let rotation_interval = match rng.u8(..4) {
            0 => None,
            1 => Some(2 * PUBLICATION),
            // As soon as the pending key may sign.
            _ => Some(Duration::ZERO),
        };
        let instances = (0..rng.usize(2..4)).map(|_| {
            let host = Arc::new(Host::new(Arc::clone(&world), rng.fork()));
            let mut settings = test_settings();
            settings.lifetime = Duration::from_mins(rng.u64(5..30));
            settings.leeway = MAX_LEEWAY.mul_f64(rng.f64());
            let mut shared = environment.shared.clone();
            shared.keys.jwks_max_age = MAX_AGE / rng.u32(1..4);
            Instance::new(host, shared, settings, rotation_interval, rng.fork())
        });
        let instances = instances.collect();
        let verifiers = vec![None; VERIFIERS];
        Self { world, instances, verifiers, cache: None, tokens: Vec::new(), rng }
    }

    /// Runs the schedule until it lacks a property, or the given one.
    async fn run(mut self, property: Option<Property>) -> Option<Violation> {
        self.instances.iter().for_each(Instance::restart);
        while self.world.at() < LENGTH {
            sleep(STEP.mul_f64(2.0 * self.rng.f64())).await;
            self.fetch();
            match self.rng.u8(..100) {
                0..8 => self.any_instance().host.freeze(BOUND.mul_f64(2.0 * self.rng.f64())),
                8..20 => self.any_instance().host.cut(BOUND.mul_f64(2.0 * self.rng.f64())),
                20..22 => self.any_instance().restart(),
                22..24 => {
                    let skew = time::Duration::seconds(self.rng.i64(-3600..3600));
                    self.any_instance().host.set_clock(skew);
                }
                24..40 => self.operate(Operation::Rotate),
                40..43 => self.revoke(),
                43..45 => self.world.database().dump(self.world.at()),
                45 => self.world.database().restore(self.world.at()),
                46..60 => self.instances.iter().for_each(|instance| instance.notify()),
                _ => {}
            }
            self.log_in();
            self.check_any_token();
            let found = self.violation(property);
            if found.is_some() {
                return found;
            }
        }
        self.recover().await;
        self.violation(property)
    }

    fn violation(&self, property: Option<Property>) -> Option<Violation> {
        let is_wanted = |found: &&Violation| property.is_none_or(|wanted| found.property == wanted);
        self.world.database().violations.iter().find(is_wanted).cloned()
    }

    fn any_instance(&mut self) -> Rc<Instance> {
        Rc::clone(&self.instances[self.rng.usize(..self.instances.len())])
    }

    /// Lets each verifier fetch the keys if it may no longer use those that it has, some through
    /// the cache.
    fn fetch(&mut self) {
        let at = self.world.at();
        for index in 0..VERIFIERS {
            let is_usable = self.verifiers[index].as_ref().is_some_and(|keys| keys.is_usable(at));
            // It fetches when it needs them, so the verifiers do not keep step.
            if is_usable || self.rng.bool() {
                continue;
            }
            let served = self.serve_jwks();
            let reply = served.map(|(body, max_age)| FetchedKeys { body, sent_at: at, max_age });
            if index == 0 {
                self.verifiers[index] = reply;
                continue;
            }
            if !self.cache.as_ref().is_some_and(|keys| keys.is_usable(at)) {
                self.cache = reply;
            }
            let cached = self.cache.clone();
            self.verifiers[index] = cached.map(|cached| FetchedKeys { sent_at: at, ..cached });
        }
    }

    /// Returns the public keys of an instance, if possible of one that does not know the newest.
    fn serve_jwks(&mut self) -> Option<(String, Duration)> {
        let newest = self.world.database().keys.last()?.id.to_string();
        let mut replies: Vec<_> = self.instances.iter().filter_map(|one| one.jwks()).collect();
        self.rng.shuffle(&mut replies);
        replies.sort_by_key(|(body, _)| body.contains(&newest));
        replies.into_iter().next()
    }

    /// Carries an operation out at an instance or on the command line.
    fn operate(&mut self, operation: Operation) {
        let instance = self.any_instance();
        if self.rng.bool() {
            return instance.operate(operation);
        }
        spawn_local(async move {
            let keys = instance.open_keys().await?;
            operation.run(&keys).await.ok()
        });
    }

    fn revoke(&mut self) {
        let keys = self.world.database().key_set().keys;
        let index = self.rng.usize(..=keys.len());
        let operation =
            keys.get(index).map_or(Operation::RevokeAll, |key| Operation::Revoke(key.id));
        self.operate(operation);
    }

    /// Logs in at an instance, and shows the token to the verifiers.
    fn log_in(&mut self) {
        let delay = Duration::from_secs(3).mul_f64(self.rng.f64());
        let instance = self.any_instance();
        if self.rng.u8(..16) > 0 && !self.is_due(&instance) {
            return;
        }
        let Some(token) = instance.log_in(delay) else { return };
        self.world.database().record_token(token.key, token.issued_at, token.expires_at);
        let revoked_at = self.world.database().history(token.key).and_then(|key| key.revoked_at);
        let age = revoked_at.map(|revoked_at| self.world.at().saturating_sub(revoked_at));
        if age > Some(BOUND) {
            let text = format!("an instance signs with a key revoked {age:?} ago");
            self.world.report(Property::RevokedKeysDoNotSign, text);
        }
        self.show_to_verifiers(&token);
        self.tokens.push(Rc::new(token));
    }

    /// Returns `true` if an instance would sign with a key that it has not signed with, or with a
    /// revoked one. Signatures take most of the time.
    fn is_due(&self, instance: &Instance) -> bool {
        let Some(id) = instance.next_key() else { return false };
        let database = self.world.database();
        let is_revoked = database.history(id).is_some_and(|key| key.revoked_at.is_some());
        is_revoked || instance.latest_key.get() != Some(id)
    }

    /// Shows a token to every verifier.
    fn show_to_verifiers(&self, token: &Token) {
        let at = self.world.at();
        let Some(key) = self.world.database().history(token.key) else { return };
        let is_known_everywhere = at >= key.published_at + PUBLICATION;
        let is_lost = self.world.database().is_lost(token.issued_at);
        let has_to_know =
            key.revoked_at.is_none() && !is_lost && (is_known_everywhere || !key.is_emergency);
        let must_not_know = key.revoked_at.is_some_and(|revoked_at| at > revoked_at + PUBLICATION);
        for keys in self.verifiers.iter().flatten().filter(|keys| keys.is_usable(at)) {
            let is_known = keys.body.contains(&token.key.to_string());
            let property = match is_known {
                false if has_to_know => Property::VerifiersKnowKeys,
                true if must_not_know => Property::VerifiersForgetKeys,
                _ => continue,
            };
            let sent_at = keys.sent_at;
            self.world.report(property, format!("at {at:?}, fetched at {sent_at:?}: {key:?}"));
        }
    }

    /// Shows one token that has not expired to everybody.
    fn check_any_token(&mut self) {
        let now = self.world.now();
        self.tokens.retain(|token| now < token.expires_at + MAX_LEEWAY);
        let Some(token) = self.rng.choice(&self.tokens) else { return };
        self.show_to_verifiers(token);
        for instance in &self.instances {
            instance.check(Rc::clone(token));
        }
    }

    /// Checks that everything works once the faults have passed.
    async fn recover(&mut self) {
        self.instances.iter().for_each(|instance| instance.host.calm());
        sleep(3 * BOUND).await;
        self.fetch();
        for state in [KeyState::Active, KeyState::Pending] {
            let count = self.world.database().count(state);
            if count != 1 {
                self.world.report(Property::OneOfEach, format!("{count} keys are {state:?}"));
            }
        }
        for instance in &self.instances {
            match instance.log_in(Duration::ZERO) {
                Some(token) => self.show_to_verifiers(&token),
                None => self.world.report(Property::LoginsSucceed, "a login fails".to_owned()),
            }
        }
    }
}

/// Parts that all schedules share.
struct Environment {
    shared: Shared,
    wrapped: WrappedKey,
}

impl Environment {
    fn new() -> Self {
        let secret = SecretKey::parse(&[7; 32]).unwrap();
        let wrapped = RootKey::generate().unwrap().wrap(&secret).unwrap();
        let roles = Roles::from_iter([RoleName::USER]);
        let registered_at = datetime!(2026-01-02 03:04:05 UTC);
        let user = User::new(Username::parse("Alice").unwrap(), roles, registered_at);
        let metrics = Arc::new(Metrics::new().unwrap());
        let keys = KeySettings {
            secret: SecretKeySource::Given(secret),
            previous_secret: None,
            algorithm: SigningAlgorithm::Es256,
            jwks_max_age: MAX_AGE,
            rotation_interval: None,
        };
        Self { shared: Shared { keys, metrics, user }, wrapped }
    }
}

/// Runs schedules until one lacks a property, or the given one. Returns its seed and the violation.
fn find_violation(
    variant: Variant,
    property: Option<Property>,
    seeds: Range<u64>,
) -> Option<String> {
    let environment = Environment::new();
    seeds.into_iter().find_map(|seed| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let simulation = async { Simulation::new(variant, seed, &environment).run(property).await };
        let Violation { property, text } =
            LocalSet::new().block_on(&runtime.unwrap(), simulation)?;
        Some(format!("seed {seed} violates {property:?}: {text}"))
    })
}

#[test]
fn no_schedule_violates_a_property() {
    assert_eq!(find_violation(Variant::Real, None, 0..400), None);
}

#[test]
fn wrong_variants_are_detected() {
    for (variant, property) in [
        (Variant::NoPublication, Property::VerifiersKnowKeys),
        (Variant::OneMaxAge, Property::VerifiersKnowKeys),
        (Variant::NoStaleness, Property::VerifiersKnowKeys),
        (Variant::NoCache, Property::VerifiersKnowKeys),
        (Variant::StaleJwks, Property::VerifiersKnowKeys),
        (Variant::StaleJwks, Property::VerifiersForgetKeys),
        (Variant::LateKeys, Property::RevokedKeysDoNotSign),
        (Variant::StaleSignatures, Property::RevokedKeysDoNotSign),
        (Variant::LateKeysAlone, Property::RevocationsHold),
        (Variant::FormerKeys, Property::RevocationsHold),
        (Variant::UnstoredExtension, Property::KeysOutliveTokens),
        (Variant::EarlyDeletion, Property::KeysOutliveTokens),
        (Variant::EarlyDeletion, Property::TokensAreAccepted),
    ] {
        let found = find_violation(variant, Some(property), 0..300);
        assert!(found.is_some(), "{variant:?} does not violate {property:?}");
    }
}
