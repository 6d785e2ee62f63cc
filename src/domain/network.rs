//! [`Network`]: the addresses that limits count as one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::RequestOrigin;

/// Prefix of an IPv6 network, in bits. A provider commonly assigns a /56 to one customer.
const IPV6_PREFIX: u32 = 56;

/// IPv4 address, or the /56 of an IPv6 address. An IPv4-mapped address is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let host_bits = Ipv6Addr::BITS - IPV6_PREFIX;
                Ipv6Addr::from_bits(address.to_bits() >> host_bits << host_bits).into()
            }
        })
    }
}

impl From<&RequestOrigin> for Network {
    fn from(origin: &RequestOrigin) -> Self {
        origin.address.into()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/{IPV6_PREFIX}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> String {
        Network::from(address.parse::<IpAddr>().unwrap()).to_string()
    }

    #[test]
    fn network_is_an_ipv4_address_or_a_56_of_ipv6() {
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2ff:3:4:5:6"), "2001:db8:1:200::/56");
        assert_eq!(network("2001:db8:1:200::"), "2001:db8:1:200::/56");
        assert_eq!(network("2001:db8:1:300::"), "2001:db8:1:300::/56");
    }
}
