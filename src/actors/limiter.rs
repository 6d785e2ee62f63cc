//! [`Limiter`]: bounds the rate of the events of each account, client or network.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::time::Duration;

pub(super) use crate::config::Rate;

/// Rate of the reports about one subject.
pub(super) const REPORTS: Rate = Rate { burst: 10, interval: Duration::from_mins(1) };

/// Rate of all reports of one kind by this instance.
pub(super) const TOTAL_REPORTS: Rate = Rate { burst: 600, interval: Duration::from_secs(1) };

/// Rate of the resets of passwords that one network tries. A code cannot be guessed: the limit
/// protects the database.
pub(super) const RESETS: Rate = Rate { burst: 10, interval: Duration::from_secs(6) };

/// Rate for events that are limited for each subject alone.
pub(super) const UNLIMITED: Rate = Rate { burst: u32::MAX, interval: Duration::ZERO };

/// Maximum number of subjects in memory.
const CAPACITY: usize = 10_000;

/// Limits the events of each subject, and all together.
pub(super) struct Limiter<S> {
    /// Each with the number of events refused since the last admitted one.
    buckets: Buckets<S, u64>,
    total_rate: Rate,
    total: Bucket,
}

impl<S: Copy + Eq + Hash> Limiter<S> {
    /// Creates a limiter for the events of each subject and for those of all. `now` is the current
    /// uptime, as for [`Self::admit`].
    pub(super) fn new(rate: Rate, total_rate: Rate, now: Duration) -> Self {
        Self { buckets: Buckets::new(rate), total_rate, total: Bucket::full(total_rate, now) }
    }

    /// Returns the number of events that were refused since the last admitted one of the subject, or
    /// `None` to refuse this one, too.
    pub(super) fn admit(&mut self, subject: S, now: Duration) -> Option<u64> {
        let rate = self.buckets.rate;
        let (bucket, refused) = self.buckets.bucket(subject, now);
        if bucket.has_token(rate, now) && self.total.has_token(self.total_rate, now) {
            bucket.tokens -= 1;
            self.total.tokens -= 1;
            return Some(mem::take(refused));
        }
        *refused += 1;
        None
    }

    /// Returns the time until a refused subject gets its next token.
    pub(super) fn wait(&self, subject: S, now: Duration) -> Duration {
        let bucket = self.buckets.by_subject.get(&subject);
        bucket.map_or(Duration::ZERO, |(bucket, _)| bucket.wait(self.buckets.rate, now))
    }
}

/// Token buckets of the subjects with recent events, each with a note.
pub(super) struct Buckets<S, N> {
    rate: Rate,
    by_subject: HashMap<S, (Bucket, N)>,
}

impl<S: Copy + Eq + Hash, N: Default> Buckets<S, N> {
    /// Creates buckets that are full at first.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, by_subject: HashMap::new() }
    }

    /// Returns the bucket of a subject, and its note. `now` is the current uptime.
    pub(super) fn bucket(&mut self, subject: S, now: Duration) -> &mut (Bucket, N) {
        if self.by_subject.len() >= CAPACITY && !self.by_subject.contains_key(&subject) {
            self.make_room(now);
        }
        let new = || (Bucket::full(self.rate, now), N::default());
        self.by_subject.entry(subject).or_insert_with(new)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// Returns the bucket of a subject with recent events, and its note.
    pub(super) fn find(&mut self, subject: S) -> Option<&mut (Bucket, N)> {
        self.by_subject.get_mut(&subject)
    }

    /// Forgets the subjects without recent events. If those with some are many, forgets all: room for
    /// a few would have to be made again at once.
    fn make_room(&mut self, now: Duration) {
        self.by_subject.retain(|_, (bucket, _)| {
            bucket.has_token(self.rate, now);
            bucket.tokens < self.rate.burst
        });
        if self.by_subject.len() > CAPACITY / 2 {
            self.by_subject.clear();
        }
    }
}

/// Token bucket: `burst` events at once, and one more after each interval.
pub(super) struct Bucket {
    tokens: u32,
    /// Uptime at which the latest token was added.
    filled_at: Duration,
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: rate.burst, filled_at: now }
    }

    /// Adds the tokens of the time that has passed. Returns `true` if there are any.
    pub(super) fn has_token(&mut self, rate: Rate, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled_at);
        let intervals = passed.as_nanos() / rate.interval.as_nanos().max(1);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(intervals).min(rate.burst);
        self.filled_at += rate.interval.saturating_mul(intervals);
        self.tokens > 0
    }

    /// Takes a token, if there is any.
    pub(super) fn take_token(&mut self, rate: Rate, now: Duration) {
        if self.has_token(rate, now) {
            self.tokens -= 1;
        }
    }

    /// Returns the time until an empty bucket has a token.
    pub(super) fn wait(&self, rate: Rate, now: Duration) -> Duration {
        (self.filled_at + rate.interval).saturating_sub(now)
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
    fn refused_subject_is_told_when_the_next_event_is_admitted() {
        let mut limiter = Limiter::new(REPORTS, UNLIMITED, Duration::ZERO);
        let at = Duration::from_secs;
        assert_eq!(reported(&mut limiter, 1, at(70), 11).len(), 10);

        assert_eq!(limiter.wait(1, at(90)), at(40));
        assert_eq!(limiter.admit(1, at(129)), None);
        assert_eq!(limiter.admit(1, at(130)), Some(2));
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
