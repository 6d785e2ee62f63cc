//! [`Limiter`]: bounds the rate at which one account, or one address, fills the log and the audit
//! log.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::time::Duration;

/// Rate of the reports about one subject.
pub(super) const REPORTS: Rate = Rate { burst: 10, interval: Duration::from_mins(1) };

/// Rate of all reports of one kind by this instance.
pub(super) const TOTAL_REPORTS: Rate = Rate { burst: 600, interval: Duration::from_secs(1) };

/// Rate for events that are limited for each subject alone.
pub(super) const UNLIMITED: Rate = Rate { burst: u32::MAX, interval: Duration::ZERO };

/// Maximum number of subjects in memory.
const CAPACITY: usize = 10_000;

/// Limits the events of each subject, and all together.
pub(super) struct Limiter<S> {
    rate: Rate,
    buckets: HashMap<S, (Bucket, u64)>,
    total_rate: Rate,
    total: Bucket,
}

impl<S: Copy + Eq + Hash> Limiter<S> {
    /// Creates a limiter for the events of each subject and for those of all. `now` is the current uptime, as for [`Self::admit`].
    pub(super) fn new(rate: Rate, total_rate: Rate, now: Duration) -> Self {
        Self { rate, buckets: HashMap::new(), total_rate, total: Bucket::full(total_rate, now) }
    }

    /// Returns the number of events that were refused since the last admitted one of the subject, or
    /// `None` to refuse this one, too.
    pub(super) fn admit(&mut self, subject: S, now: Duration) -> Option<u64> {
        if self.buckets.len() >= CAPACITY && !self.buckets.contains_key(&subject) {
            self.make_room(now);
        }
        let new = || (Bucket::full(self.rate, now), 0);
        let (bucket, refused) = self.buckets.entry(subject).or_insert_with(new);
        if bucket.has_token(self.rate, now) && self.total.has_token(self.total_rate, now) {
            bucket.tokens -= 1;
            self.total.tokens -= 1;
            return Some(mem::take(refused));
        }
        *refused += 1;
        None
    }

    /// Forgets the subjects without recent events or, if there are none, all.
    fn make_room(&mut self, now: Duration) {
        self.buckets.retain(|_, (bucket, _)| {
            bucket.has_token(self.rate, now);
            bucket.tokens < self.rate.burst
        });
        if self.buckets.len() >= CAPACITY {
            self.buckets.clear();
        }
    }
}

/// Limit of a token bucket: `burst` at once, and one more after each interval.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) interval: Duration,
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

    fn reported(limiter: &mut Limiter<u32>, subject: u32, now: Duration, events: u32) -> Vec<u64> {
        (0..events).filter_map(|_| limiter.admit(subject, now)).collect()
    }

    #[test]
    fn reports_about_one_subject_are_limited_and_counted() {
        let mut limiter = Limiter::new(REPORTS, TOTAL_REPORTS, Duration::ZERO);
        let [alice, bob] = [1, 2];
        let at = Duration::from_secs;

        assert_eq!(reported(&mut limiter, alice, at(0), 100), [0; 10]);
        assert_eq!(reported(&mut limiter, bob, at(0), 1), [0]);
        assert_eq!(reported(&mut limiter, alice, at(59), 5), [0; 0]);
        assert_eq!(reported(&mut limiter, alice, at(60), 5), [95]);
        assert_eq!(reported(&mut limiter, alice, at(3_600), 100), [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn reports_about_many_subjects_are_limited_together() {
        let mut limiter = Limiter::<u32>::new(REPORTS, TOTAL_REPORTS, Duration::ZERO);
        let mut subjects = 0..;
        let mut count = |now| {
            let subjects = subjects.by_ref().take(5_000);
            subjects.filter_map(|subject| limiter.admit(subject, now)).count()
        };

        assert_eq!(count(Duration::ZERO), 600);
        assert_eq!(count(Duration::from_secs(7)), 7);
        assert_eq!(count(Duration::from_secs(7)), 0);
        assert!(limiter.buckets.len() <= CAPACITY);
    }

    #[test]
    fn subjects_without_a_common_limit_do_not_share_one() {
        let mut limiter = Limiter::new(REPORTS, UNLIMITED, Duration::ZERO);

        assert!((0..5_000).all(|subject| limiter.admit(subject, Duration::ZERO) == Some(0)));
        assert_eq!(reported(&mut limiter, 0, Duration::ZERO, 100).len(), 9);
    }
}
