//! Reports refused logins in the log and the audit log, at a bounded rate.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{AuditAction, AuditRecord, Requester, User, UserId};
use crate::store::Store;
use crate::telemetry::ErrorChain;

/// Rate of the reports about one account or, where no account has the name, about one address.
const RATE: Rate = Rate { burst: 10, interval: Duration::from_mins(1) };

/// Rate of all reports of this instance.
const TOTAL_RATE: Rate = Rate { burst: 600, interval: Duration::from_secs(1) };

/// Maximum number of accounts and addresses in memory.
const CAPACITY: usize = 10_000;

/// Reports of refused logins. Clones share one limit.
#[derive(Clone)]
pub(super) struct Refusals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limiter: Rc<RefCell<Limiter>>,
}

impl Refusals {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let limiter = Limiter::new(clock.uptime());
        Self { store, clock, limiter: Rc::new(RefCell::new(limiter)) }
    }

    /// Reports a refused login. `account` is the one with the name; other names are not reported,
    /// since people type passwords there.
    pub(super) fn report(&self, account: Option<&User>, requester: &Requester) {
        let Some(origin) = &requester.origin else { return };
        let subject = match account {
            Some(user) => Subject::Account(user.id),
            None => Subject::Address(origin.address),
        };
        let admitted = self.limiter.borrow_mut().admit(subject, self.clock.uptime());
        let Some(unreported) = admitted else { return };
        tracing::info!(
            user.id = account.map(|user| tracing::field::display(user.id)),
            user.name = account.map(|user| user.username.as_str()),
            client.address = %origin.address,
            client.user_agent = origin.user_agent.as_str(),
            unreported,
            "login refused"
        );
        if let Some(user) = account {
            // Not awaited: the time of the reply must not tell that the account exists.
            actix::spawn(self.clone().record(user.clone(), requester.clone(), unreported));
        }
    }

    async fn record(self, user: User, requester: Requester, unreported: u64) {
        let session_id = requester.session_id;
        let action = AuditAction::LoginRefused;
        let mut record = AuditRecord::for_user(self.clock.now(), action, &user, requester);
        record.session_id = session_id;
        if unreported > 0 {
            let name = user.username.as_str();
            record.detail = Some(format!("{name} ({unreported} more since the last record)"));
        }
        if let Err(error) = self.store.insert_audit_record(&record).await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %user.id, %error, "failed to record a refused login");
        }
    }
}

/// Account or address that a report is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Account(UserId),
    Address(IpAddr),
}

/// Limits the reports about each subject, and all together.
struct Limiter {
    buckets: HashMap<Subject, (Bucket, u64)>,
    total: Bucket,
}

impl Limiter {
    fn new(now: Duration) -> Self {
        Self { buckets: HashMap::new(), total: Bucket::full(TOTAL_RATE, now) }
    }

    /// Returns the number of reports that were suppressed since the last one about the subject, or
    /// `None` to suppress this one, too.
    fn admit(&mut self, subject: Subject, now: Duration) -> Option<u64> {
        if self.buckets.len() >= CAPACITY && !self.buckets.contains_key(&subject) {
            self.make_room(now);
        }
        let new = || (Bucket::full(RATE, now), 0);
        let (bucket, suppressed) = self.buckets.entry(subject).or_insert_with(new);
        if bucket.has_token(RATE, now) && self.total.has_token(TOTAL_RATE, now) {
            bucket.tokens -= 1;
            self.total.tokens -= 1;
            return Some(mem::take(suppressed));
        }
        *suppressed += 1;
        None
    }

    /// Forgets the subjects without recent refusals or, if there are none, all.
    fn make_room(&mut self, now: Duration) {
        self.buckets.retain(|_, (bucket, _)| {
            bucket.has_token(RATE, now);
            bucket.tokens < RATE.burst
        });
        if self.buckets.len() >= CAPACITY {
            self.buckets.clear();
        }
    }
}

/// Limit of a token bucket: `burst` at once, and one more after each interval.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    interval: Duration,
}

struct Bucket {
    tokens: u32,
    /// Uptime at which the latest token was added.
    filled_at: Duration,
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: rate.burst, filled_at: now }
    }

    /// Adds the tokens of the time that has passed. Returns `true` if there are any.
    fn has_token(&mut self, rate: Rate, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled_at);
        let intervals = passed.as_nanos() / rate.interval.as_nanos().max(1);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(intervals).min(rate.burst);
        self.filled_at += rate.interval.saturating_mul(intervals);
        self.tokens > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(limiter: &mut Limiter, subject: Subject, now: Duration, refusals: u32) -> Vec<u64> {
        (0..refusals).filter_map(|_| limiter.admit(subject, now)).collect()
    }

    #[test]
    fn reports_about_one_account_are_limited_and_counted() {
        let mut limiter = Limiter::new(Duration::ZERO);
        let alice = Subject::Account(UserId::random());
        let bob = Subject::Account(UserId::random());
        let at = Duration::from_secs;

        assert_eq!(reported(&mut limiter, alice, at(0), 100), [0; 10]);
        assert_eq!(reported(&mut limiter, bob, at(0), 1), [0]);
        assert_eq!(reported(&mut limiter, alice, at(59), 5), [0; 0]);
        assert_eq!(reported(&mut limiter, alice, at(60), 5), [95]);
        assert_eq!(reported(&mut limiter, alice, at(3_600), 100), [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn reports_about_many_accounts_are_limited_together() {
        let mut limiter = Limiter::new(Duration::ZERO);
        let mut count = |now| {
            let subjects = (0..5_000).map(|_| Subject::Account(UserId::random()));
            subjects.filter_map(|subject| limiter.admit(subject, now)).count()
        };

        assert_eq!(count(Duration::ZERO), 600);
        assert_eq!(count(Duration::from_secs(7)), 7);
        assert_eq!(count(Duration::from_secs(7)), 0);
        assert!(limiter.buckets.len() <= CAPACITY);
    }
}
