//! Durations of the hashes in the database. A refusal must not tell which hash an account has, or
//! that there is no account: if the hashes differ, every refusal takes as long as the slowest.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::domain::{HashCost, Pbkdf2Digest};

/// Duration of a refusal relative to the expected one of the slowest hash, so that a hash that
/// takes a little longer than expected does not show.
const MARGIN: f64 = 1.25;

/// Part of the way that an average moves to a new value.
const WEIGHT: f64 = 1.0 / 8.0;

/// Greatest slowdown that counts. Hashing threads get about a tenth of a busy core; a machine that
/// was suspended tells nothing.
const MAX_SLOWDOWN: f64 = 10.0;

/// Assumed duration of an iteration of PBKDF2-HMAC-SHA256, until hashes have been measured.
pub(super) const ASSUMED_PER_ITERATION: Duration = Duration::from_nanos(400);

/// Time of one job on a hashing thread.
#[derive(Clone, Copy, Debug)]
pub struct JobTime {
    /// Uptime at the start.
    pub started_at: Duration,
    pub elapsed: Duration,
    /// Processor time of the thread. Unlike the elapsed time, it does not depend on how busy the
    /// machine is.
    pub processor: Duration,
}

/// Costs of the hashes in the database, and their times.
#[derive(Debug)]
pub(super) struct HashTimes {
    /// Cost of new hashes, and of refusals without an account.
    configured: HashCost,
    /// Costs that hashes have, the configured one included.
    present: HashSet<HashCost>,
    /// Moving average of the processor time of a hash.
    processor: HashMap<HashCost, Duration>,
    /// Moving average of the elapsed time of a job relative to its processor time.
    slowdown: f64,
}

impl HashTimes {
    pub(super) fn new(configured: HashCost) -> Self {
        let present = HashSet::from([configured]);
        Self { configured, present, processor: HashMap::new(), slowdown: 1.0 }
    }

    /// Replaces the costs that hashes have.
    pub(super) fn set_present(&mut self, costs: impl IntoIterator<Item = HashCost>) {
        self.present = costs.into_iter().chain([self.configured]).collect();
        self.processor.retain(|cost, _| self.present.contains(cost));
    }

    /// Returns the costs to measure: the greatest of each algorithm, unless it has a time. If all
    /// hashes have one cost, no time is needed.
    pub(super) fn unmeasured(&self) -> Vec<HashCost> {
        let is_greatest = |cost: &&HashCost| {
            let same_algorithm = self.present.iter().filter(|other| other.has_algorithm_of(**cost));
            same_algorithm.map(|other| other.work()).max() == Some(cost.work())
        };
        let is_new = |cost: &&HashCost| !self.processor.contains_key(*cost);
        let greatest = self.present.iter().filter(is_greatest).filter(is_new).copied();
        if self.present.len() == 1 { Vec::new() } else { greatest.collect() }
    }

    /// Records the time of one hash. `None` stands for the configured cost.
    pub(super) fn observe(&mut self, cost: Option<HashCost>, time: JobTime) {
        let JobTime { elapsed, processor, .. } = time;
        let average = self.processor.entry(cost.unwrap_or(self.configured)).or_insert(processor);
        *average = average.mul_f64(1.0 - WEIGHT) + processor.mul_f64(WEIGHT);
        if !processor.is_zero() {
            let slowdown = elapsed.as_secs_f64() / processor.as_secs_f64();
            self.slowdown += (slowdown.min(MAX_SLOWDOWN) - self.slowdown) * WEIGHT;
        }
    }

    /// Returns the time after which a wrong password is refused, counted from the start of its
    /// hash, which has the given cost. It is the same for all costs. Zero if all hashes have one
    /// cost, so that they take the same time anyway.
    pub(super) fn refusal_time(&mut self, cost: Option<HashCost>) -> Duration {
        self.present.extend(cost);
        if self.present.len() == 1 {
            return Duration::ZERO;
        }
        let slowest = self.present.iter().filter_map(|cost| self.time_of(*cost)).max();
        slowest.unwrap_or_default().mul_f64(self.slowdown * MARGIN)
    }

    /// Returns the processor time of a hash; `None` if it is not known yet.
    fn time_of(&self, cost: HashCost) -> Option<Duration> {
        let measured = self.processor.get(&cost).copied();
        measured.or_else(|| match cost {
            HashCost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations } => {
                Some(ASSUMED_PER_ITERATION * iterations.get())
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "pbkdf2-sha256:600000";

    fn cost(text: &str) -> HashCost {
        text.parse().unwrap()
    }

    fn quiet(millis: u64) -> JobTime {
        let elapsed = Duration::from_millis(millis);
        JobTime { started_at: Duration::ZERO, elapsed, processor: elapsed }
    }

    fn assert_near(actual: Duration, millis: f64) {
        let difference = (actual.as_secs_f64() * 1000.0 - millis).abs();
        assert!(difference < 1.0, "{actual:?} instead of {millis} ms");
    }

    #[test]
    fn refusals_wait_only_if_costs_differ() {
        let mut times = HashTimes::new(cost(OWN));
        times.observe(None, quiet(100));
        assert_eq!(times.refusal_time(Some(cost(OWN))), Duration::ZERO);
        assert_eq!(times.unmeasured(), []);

        times.set_present([cost("bcrypt:12")]);
        times.observe(Some(cost("bcrypt:12")), quiet(200));
        for of_account in [None, Some(OWN), Some("bcrypt:12")] {
            assert_near(times.refusal_time(of_account.map(cost)), 250.0);
        }

        times.set_present([]);
        assert_eq!(times.refusal_time(None), Duration::ZERO, "the costly hashes were replaced");
    }

    #[test]
    fn cost_that_a_login_meets_counts() {
        let mut times = HashTimes::new(cost(OWN));
        times.observe(None, quiet(100));

        assert_near(times.refusal_time(Some(cost("pbkdf2-sha256:1000"))), 125.0);
        times.observe(Some(cost("bcrypt:12")), quiet(200));
        assert_near(times.refusal_time(Some(cost("bcrypt:12"))), 250.0);
    }

    #[test]
    fn configured_cost_is_assumed_until_it_is_measured() {
        let mut times = HashTimes::new(cost(OWN));
        assert_near(times.refusal_time(Some(cost("pbkdf2-sha256:1000"))), 300.0);
    }

    #[test]
    fn only_the_greatest_cost_of_each_algorithm_is_measured() {
        let mut times = HashTimes::new(cost(OWN));
        times.observe(None, quiet(100));
        let present = ["bcrypt:10", "bcrypt:12", "pbkdf2-sha256:1000000", "pbkdf2-sha256:260000"];
        times.set_present(present.map(cost));

        let mut unmeasured: Vec<_> = times.unmeasured().iter().map(HashCost::to_string).collect();
        unmeasured.sort();
        assert_eq!(unmeasured, ["bcrypt:12", "pbkdf2-sha256:1000000"]);
    }

    /// Others compete for the processor: every job takes four times as long.
    #[test]
    fn refusals_follow_the_load_of_the_machine() {
        let mut times = HashTimes::new(cost(OWN));
        times.observe(Some(cost("bcrypt:12")), quiet(200));
        times.set_present([cost("bcrypt:12")]);
        for _ in 0..100 {
            times.observe(None, JobTime { elapsed: Duration::from_millis(400), ..quiet(100) });
        }

        assert_near(times.refusal_time(None), 4.0 * 250.0);
    }
}
