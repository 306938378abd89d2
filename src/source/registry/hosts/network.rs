//! Networks: addresses whose first bits are the same (CIDR notation, RFC 4632).

use std::net::IpAddr;

/// A network, or one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `ADDRESS/BITS`; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.parse().ok().filter(|bits| *bits <= width(&address))?;
        Some(Network { address, bits })
    }

    /// One address.
    pub(super) fn of(address: IpAddr) -> Network {
        Network { address, bits: width(&address) }
    }

    pub(super) fn contains(&self, address: &IpAddr) -> bool {
        // An IPv4 address may be written as one of IPv6.
        let (address, canonical) = (address.to_canonical(), self.address.to_canonical());
        let bits = match (self.address, canonical) {
            (IpAddr::V6(_), IpAddr::V4(_)) => self.bits.saturating_sub(u128::BITS - u32::BITS),
            _ => self.bits,
        };
        let differ = match (address, canonical) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differ >= bits
    }
}

/// Bits of an address.
fn width(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}
