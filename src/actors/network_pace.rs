//! [`NetworkPace`]: bounds how many names one network can try passwords on.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::limiter::{Buckets, Rate, UNLIMITED};
use super::{ActorError, Share};
use crate::domain::{Network, Username};

/// Limit of the names that fail to log in from one network. A name counts once while it is one of
/// the latest, however often it fails: the limit of its account is for that. Successful logins and
/// known devices do not count.
///
/// The memory is bounded: the networks by [`Buckets`], the names of each by the burst.
pub(super) struct NetworkPace {
    /// Rate of the names of each network; `None` for no limit.
    rate: Option<Rate>,
    /// The latest names of each network, the oldest first. Only their hashes are kept, since people
    /// type passwords into the field of the name.
    failures: Buckets<Network, VecDeque<u64>>,
    /// Hasher with a random key.
    hasher: RandomState,
}

impl NetworkPace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let failures = Buckets::new(rate.unwrap_or(UNLIMITED));
        Self { rate, failures, hasher: RandomState::new() }
    }

    /// Admits a login. It does not count until it fails. `now` is the current uptime.
    ///
    /// # Errors
    /// Returns [`ActorError::TooManyAttempts`] if too many other names have failed.
    pub(super) fn admit(
        &mut self,
        share: Share,
        name: &Username,
        now: Duration,
    ) -> Result<(), ActorError> {
        let Some((rate, network)) = self.limit(share) else { return Ok(()) };
        let name = self.hash(name);
        let Some((bucket, names)) = self.failures.find(network) else { return Ok(()) };
        if bucket.has_token(rate, now) || names.contains(&name) {
            return Ok(());
        }
        Err(ActorError::TooManyAttempts { retry_after: bucket.wait(rate, now) })
    }

    /// Counts a login that failed.
    pub(super) fn record_failure(&mut self, share: Share, name: &Username, now: Duration) {
        let Some((rate, network)) = self.limit(share) else { return };
        let name = self.hash(name);
        let (bucket, names) = self.failures.bucket(network, now);
        if names.contains(&name) {
            return;
        }
        // There is none if others failed after this one was admitted.
        bucket.take_token(rate, now);
        names.push_back(name);
        if names.len() > rate.burst as usize {
            names.pop_front();
        }
    }

    /// Returns the limit of a share, and its network.
    fn limit(&self, share: Share) -> Option<(Rate, Network)> {
        self.rate.zip(share.network).filter(|_| !share.is_known)
    }

    fn hash(&self, name: &Username) -> u64 {
        self.hasher.hash_one(name.key())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const RATE: Rate = Rate { burst: 20, interval: Duration::from_secs(10) };

    fn share(network: u32) -> Share {
        let network = Network::from(IpAddr::from(Ipv4Addr::from_bits(network)));
        Share { network: Some(network), is_known: false }
    }

    fn name(number: u32) -> Username {
        Username::parse(&format!("user{number}")).unwrap()
    }

    /// Fails logins with one name after the other, as many as are admitted. Returns their number.
    fn fail(pace: &mut NetworkPace, share: Share, names: std::ops::Range<u32>, now: u64) -> usize {
        let now = Duration::from_secs(now);
        let mut attempt = |number| {
            let is_admitted = pace.admit(share, &name(number), now).is_ok();
            if is_admitted {
                pace.record_failure(share, &name(number), now);
            }
            is_admitted
        };
        names.filter(|number| attempt(*number)).count()
    }

    #[test]
    fn names_that_fail_from_one_network_are_limited() {
        let mut pace = NetworkPace::new(Some(RATE));

        assert_eq!(fail(&mut pace, share(1), 0..1_000, 0), 20);
        assert_eq!(fail(&mut pace, share(2), 0..1, 0), 1, "each network has its own pace");
        assert_eq!(fail(&mut pace, share(1), 1_000..2_000, 9), 0);
        assert_eq!(fail(&mut pace, share(1), 2_000..3_000, 30), 3);
    }

    #[test]
    fn name_that_failed_lately_is_admitted_and_counts_once() {
        let mut pace = NetworkPace::new(Some(RATE));
        for _ in 0..100 {
            assert_eq!(fail(&mut pace, share(1), 0..10, 0), 10);
        }

        assert_eq!(fail(&mut pace, share(1), 10..1_000, 0), 10);
        assert_eq!(fail(&mut pace, share(1), 0..20, 0), 20);
    }

    #[test]
    fn refusal_tells_when_the_next_name_is_admitted() {
        let mut pace = NetworkPace::new(Some(RATE));
        fail(&mut pace, share(1), 0..20, 100);

        let refusal = pace.admit(share(1), &name(20), Duration::from_secs(103));
        assert!(
            matches!(
                refusal,
                Err(ActorError::TooManyAttempts { retry_after })
                    if retry_after == Duration::from_secs(7)
            ),
            "{refusal:?}"
        );
    }

    #[test]
    fn successful_logins_do_not_count() {
        let mut pace = NetworkPace::new(Some(RATE));

        assert!(
            (0..1_000)
                .all(|number| { pace.admit(share(1), &name(number), Duration::ZERO).is_ok() })
        );
        assert_eq!(fail(&mut pace, share(1), 0..20, 0), 20);
    }

    #[test]
    fn known_devices_are_not_limited() {
        let mut pace = NetworkPace::new(Some(RATE));
        let known = Share { is_known: true, ..share(1) };

        assert_eq!(fail(&mut pace, known, 0..100, 0), 100);
        assert_eq!(fail(&mut pace, share(1), 0..100, 0), 20, "nor do they count");
        assert_eq!(fail(&mut pace, known, 100..200, 0), 100);
    }

    #[test]
    fn pace_can_be_switched_off() {
        assert_eq!(fail(&mut NetworkPace::new(None), share(1), 0..1_000, 0), 1_000);
    }

    #[test]
    fn memory_is_bounded() {
        let mut pace = NetworkPace::new(Some(RATE));
        for network in 0..20_000 {
            fail(&mut pace, share(network), 0..2, 0);
        }
        for number in 0..100 {
            pace.record_failure(share(1), &name(number), Duration::ZERO);
        }

        assert!(pace.failures.len() <= 10_000);
        assert_eq!(pace.failures.find(share(1).network.unwrap()).unwrap().1.len(), 20);
    }
}
