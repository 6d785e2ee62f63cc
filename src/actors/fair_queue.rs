//! [`FairQueue`]: the order in which those who wait for the hashing threads get their turns.

use std::collections::VecDeque;

use crate::domain::{Network, Requester};

/// One of as many turns, and of as many places in a full queue, is for unknown devices if they want
/// it.
const UNKNOWN_PART: usize = 4;

/// Share in the queue that a job is counted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// Network of the requester; `None` for the service itself.
    pub network: Option<Network>,
    /// Whether the requester is known, from a former login for example. Known ones go first.
    pub is_known: bool,
}

impl From<&Requester> for Share {
    /// A requester with a session is known.
    fn from(requester: &Requester) -> Self {
        Self {
            network: requester.origin.as_ref().map(Network::from),
            is_known: requester.session_id.is_some(),
        }
    }
}

/// Items that wait, in two classes. In each, networks take turns, so that one that sends many items
/// delays only its own.
pub(super) struct FairQueue<T> {
    known: Rotation<T>,
    unknown: Rotation<T>,
    /// Number of turns given; wraps around.
    turns: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self { known: Rotation::new(), unknown: Rotation::new(), turns: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len() + self.unknown.len()
    }

    pub(super) fn push(&mut self, share: Share, item: T) {
        self.class(share).push(share.network, item);
    }

    /// Removes the item whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(UNKNOWN_PART) {
            self.unknown.pop().or_else(|| self.known.pop())
        } else {
            self.known.pop().or_else(|| self.unknown.pop())
        }
    }

    /// Removes the item that a newcomer displaces from a full queue: the newest of the network with
    /// the most items and recent turns. Returns `None` if the newcomer has no better claim than all
    /// that wait. `turns` returns the number of recent turns of a share.
    pub(super) fn displace(
        &mut self,
        newcomer: Share,
        turns: impl Fn(Share) -> usize,
    ) -> Option<T> {
        let known = |network| turns(Share { network, is_known: true });
        let unknown = |network| turns(Share { network, is_known: false });
        let part_of_unknown = self.len().div_ceil(UNKNOWN_PART);
        let held_by_unknown = self.unknown.len();
        if newcomer.is_known {
            if held_by_unknown > part_of_unknown {
                return self.unknown.pop_newest(unknown, 0);
            }
            return self.known.displace(newcomer.network, known);
        }
        if held_by_unknown < part_of_unknown {
            return self.known.pop_newest(known, 0);
        }
        self.unknown.displace(newcomer.network, unknown)
    }

    /// Removes the items of a share that match. Returns `true` if there are any.
    pub(super) fn remove(&mut self, share: Share, matches: impl Fn(&T) -> bool) -> bool {
        self.class(share).remove(share.network, matches)
    }

    fn class(&mut self, share: Share) -> &mut Rotation<T> {
        if share.is_known { &mut self.known } else { &mut self.unknown }
    }
}

/// Networks with the items of each, in the order of their next turns. No network is without items.
struct Rotation<T>(VecDeque<(Option<Network>, VecDeque<T>)>);

impl<T> Rotation<T> {
    fn new() -> Self {
        Self(VecDeque::new())
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, items)| items.len()).sum()
    }

    fn position(&self, network: Option<Network>) -> Option<usize> {
        self.0.iter().position(|(other, _)| *other == network)
    }

    fn push(&mut self, network: Option<Network>, item: T) {
        match self.position(network) {
            Some(position) => self.0[position].1.push_back(item),
            None => self.0.push_back((network, [item].into())),
        }
    }

    /// Removes the oldest item of the next network, which then is the last.
    fn pop(&mut self) -> Option<T> {
        let (network, mut items) = self.0.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.0.push_back((network, items));
        }
        item
    }

    /// Removes the newest item of the network with the most items and turns, if a newcomer has fewer
    /// even with the item that it adds: else the two would displace each other without end.
    fn displace(
        &mut self,
        newcomer: Option<Network>,
        turns: impl Fn(Option<Network>) -> usize,
    ) -> Option<T> {
        let waiting = self.position(newcomer).map_or(0, |position| self.0[position].1.len());
        let held = waiting + turns(newcomer);
        self.pop_newest(turns, held + 2)
    }

    /// Removes the newest item of the network with the most items and turns, if it has at least as
    /// many.
    fn pop_newest(
        &mut self,
        turns: impl Fn(Option<Network>) -> usize,
        at_least: usize,
    ) -> Option<T> {
        let held = self.0.iter().map(|(network, items)| items.len() + turns(*network));
        let (position, most) = held.enumerate().max_by_key(|(_, held)| *held)?;
        if most < at_least {
            return None;
        }
        let item = self.0[position].1.pop_back();
        self.forget_if_empty(position);
        item
    }

    fn remove(&mut self, network: Option<Network>, matches: impl Fn(&T) -> bool) -> bool {
        let Some(position) = self.position(network) else { return false };
        let items = &mut self.0[position].1;
        let held = items.len();
        items.retain(|item| !matches(item));
        let is_removed = items.len() < held;
        self.forget_if_empty(position);
        is_removed
    }

    fn forget_if_empty(&mut self, position: usize) {
        if self.0[position].1.is_empty() {
            self.0.remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn network(number: u32) -> Network {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    fn unknown(number: u32) -> Share {
        Share { network: Some(network(number)), is_known: false }
    }

    fn known(number: u32) -> Share {
        Share { network: Some(network(number)), is_known: true }
    }

    /// Returns a queue with items that are the numbers of their networks.
    fn queue(shares: impl IntoIterator<Item = (Share, u32)>) -> FairQueue<u32> {
        let mut queue = FairQueue::new();
        for (share, item) in shares {
            queue.push(share, item);
        }
        queue
    }

    fn times(count: usize, share: Share, item: u32) -> impl Iterator<Item = (Share, u32)> {
        std::iter::repeat_n((share, item), count)
    }

    /// No share has a turn.
    fn idle(_: Share) -> usize {
        0
    }

    fn drain(mut queue: FairQueue<u32>) -> Vec<u32> {
        from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn networks_take_turns() {
        let flood = times(4, unknown(1), 1);
        let others = [(unknown(2), 2), (unknown(3), 3), (unknown(2), 2)];

        assert_eq!(drain(queue(flood.chain(others))), [1, 2, 3, 1, 2, 1, 1]);
    }

    #[test]
    fn known_devices_get_three_of_four_turns() {
        let known_devices = times(6, known(1), 1);
        let unknown_devices = times(3, unknown(2), 2);

        assert_eq!(drain(queue(unknown_devices.chain(known_devices))), [1, 1, 1, 2, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn networks_of_known_devices_take_turns() {
        let flood = times(3, known(1), 1);

        assert_eq!(drain(queue(flood.chain([(known(2), 2)]))), [1, 2, 1, 1]);
    }

    #[test]
    fn newcomer_displaces_the_newest_of_the_largest_network() {
        let mut queue = queue([
            (unknown(1), 10),
            (unknown(2), 20),
            (unknown(1), 11),
            (unknown(2), 21),
            (unknown(1), 12),
        ]);

        assert_eq!(queue.displace(unknown(3), idle), Some(12));
        assert_eq!(queue.displace(unknown(1), idle), None, "it holds as much as the largest");
        let displaced = queue.displace(unknown(3), idle);
        assert!(displaced == Some(11) || displaced == Some(21), "{displaced:?}");
    }

    #[test]
    fn network_without_recent_turns_displaces_one_with_some() {
        let mut queue = queue([(unknown(1), 1), (unknown(2), 2)]);
        let turns = |share| usize::from(share == unknown(1));

        assert_eq!(queue.displace(unknown(1), turns), None);
        assert_eq!(queue.displace(unknown(3), turns), Some(1));
        queue.push(unknown(3), 3);
        assert_eq!(queue.displace(unknown(1), turns), None);
        assert_eq!(queue.displace(unknown(4), turns), None);
    }

    #[test]
    fn newcomers_never_displace_each_other_in_turn() {
        let mut queue = queue([(unknown(1), 1), (unknown(2), 2)]);
        assert_eq!(queue.displace(unknown(3), idle), None);

        queue.push(unknown(1), 1);
        assert_eq!(queue.displace(unknown(2), idle), None, "each would have two in turn");
        assert_eq!(queue.displace(unknown(3), idle), Some(1));
    }

    #[test]
    fn known_devices_displace_unknown_ones_down_to_their_part() {
        let mut queue = queue((1..=8).map(|number| (unknown(number), number)));
        let mut displaced = 0;
        while queue.displace(known(displaced), idle).is_some() {
            queue.push(known(displaced), 0);
            displaced += 1;
        }

        assert_eq!((displaced, queue.unknown.len()), (6, 2));
    }

    #[test]
    fn unknown_devices_get_their_part_of_a_queue_full_of_known_ones() {
        let mut queue = queue((1..=8).map(|number| (known(number), number)));
        let mut displaced = 0;
        while queue.displace(unknown(displaced), idle).is_some() {
            queue.push(unknown(displaced), 0);
            displaced += 1;
        }

        assert_eq!((displaced, queue.known.len()), (2, 6));
    }

    #[test]
    fn known_device_that_floods_is_displaced_by_others() {
        let mut queue = queue(times(8, known(1), 1));

        assert_eq!(queue.displace(known(2), idle), Some(1));
        assert_eq!(queue.displace(known(1), idle), None);
    }

    #[test]
    fn nothing_is_kept_for_a_network_that_does_not_wait() {
        let mut queue = queue([(unknown(1), 1), (unknown(2), 2), (known(3), 3)]);

        assert!(queue.remove(unknown(1), |item| *item == 1));
        assert!(!queue.remove(unknown(1), |item| *item == 1));
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(3), Some(2), None));
        assert!(queue.known.0.is_empty() && queue.unknown.0.is_empty());
    }
}
