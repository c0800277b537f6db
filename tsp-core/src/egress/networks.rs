//! The address table (docs/reference/http-callbacks.md section 3), on canonical addresses: a v4 address
//! mapped into v6 is looked at as v4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::metadata::{METADATA_V4, METADATA_V6};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], last: u16, prefix: u8) -> Ipv6Net {
    let address = Ipv6Addr::new(head[0], head[1], head[2], head[3], 0, 0, 0, last);
    Ipv6Net::new_assert(address, prefix)
}

/// Never opened by any setting, beside the metadata services.
const LOCKED_V4: [(Ipv4Net, &str); 2] = [(THIS_NETWORK, "this network"), (v4(224, 0, 0, 0, 4), "multicast")];

const LOCKED_V6: [(Ipv6Net, &str); 2] =
    [(v6([0; 4], 0, 128), "unspecified"), (v6([0xff00, 0, 0, 0], 0, 8), "multicast")];

/// Refused unless the operator allows them.
const REFUSED_V4: [(Ipv4Net, &str); 13] = [
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(100, 64, 0, 0, 10), "carrier NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link local"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(198, 18, 0, 0, 15), "benchmarks"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

const THIS_NETWORK: Ipv4Net = v4(0, 0, 0, 0, 8);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], 0, 32);
const NAT64: Ipv6Net = v6([0x0064, 0xff9b, 0, 0], 0, 96);
/// For networks of an operator's own, which may put the v4 address at any of the places of RFC 6052.
const LOCAL_NAT64: Ipv6Net = v6([0x0064, 0xff9b, 1, 0], 0, 48);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 0, 16);
const V4_COMPATIBLE: Ipv6Net = v6([0; 4], 0, 96);

/// `::ffff:0:a.b.c.d` of RFC 2765, not the mapped `::ffff:a.b.c.d`, which is looked at as v4.
const V4_TRANSLATED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);
/// What stands before the v4 address in the second half of an ISATAP address (RFC 5214), in any network.
const ISATAP: [u128; 2] = [0x0000_5efe, 0x0200_5efe];

const REFUSED_V6: [(Ipv6Net, &str); 13] = [
    (v6([0; 4], 1, 128), "loopback"),
    (V4_COMPATIBLE, "v4-compatible"),
    (NAT64, "NAT64"),
    (LOCAL_NAT64, "NAT64"),
    (V4_TRANSLATED, "v4-translated"),
    (v6([0x0100, 0, 0, 0], 0, 64), "discard"),
    (TEREDO, "Teredo"),
    (v6([0x2001, 0x0db8, 0, 0], 0, 32), "documentation"),
    (v6([0x3fff, 0, 0, 0], 0, 20), "documentation"),
    (SIX_TO_FOUR, "6to4"),
    (v6([0xfc00, 0, 0, 0], 0, 7), "unique local"),
    (v6([0xfe80, 0, 0, 0], 0, 10), "link local"),
    (v6([0xfec0, 0, 0, 0], 0, 10), "site local"),
];

/// The network of `address` that no setting opens.
pub(super) fn locked(address: IpAddr) -> Option<&'static str> {
    let metadata = match address {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => METADATA_V6.contains(&address),
    };
    if metadata { Some("cloud metadata") } else { find(address, &LOCKED_V4, &LOCKED_V6) }
}

/// The network of `address` that is refused unless allowed.
pub(super) fn refused(address: IpAddr) -> Option<&'static str> {
    find(address, &REFUSED_V4, &REFUSED_V6)
}

/// The v4 addresses that a translated v6 address may lead to.
pub(super) fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let bits = address.to_bits();
    let mut found = Vec::new();
    if NAT64.contains(&address) || V4_TRANSLATED.contains(&address) {
        found.push(low(bits));
    }
    if V4_COMPATIBLE.contains(&address) && bits > 1 {
        found.push(low(bits));
    }
    if LOCAL_NAT64.contains(&address) {
        let places = [rfc6052(bits, 48), rfc6052(bits, 56), rfc6052(bits, 64), low(bits)];
        // Where the address does not stand there are mostly zeros.
        found.extend(places.into_iter().filter(|inner| !THIS_NETWORK.contains(inner)));
    }
    if SIX_TO_FOUR.contains(&address) {
        found.push(low(bits >> 80));
    }
    if TEREDO.contains(&address) {
        // The client's address stands inverted at the end.
        found.push(low(!bits));
    }
    if ISATAP.contains(&(bits >> 32 & u128::from(u32::MAX))) {
        found.push(low(bits));
    }
    found.into_iter().map(IpAddr::V4).collect()
}

/// The last 32 bits.
fn low(bits: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default())
}

/// The v4 address behind a prefix of 48 to 64 bits: it runs around the ninth byte, which is always free.
fn rfc6052(bits: u128, prefix: u32) -> Ipv4Addr {
    let without_ninth = (bits >> 64 << 56) | (bits & ((1 << 56) - 1));
    low(without_ninth >> (120 - 32 - prefix))
}

fn find(
    address: IpAddr,
    of_v4: &[(Ipv4Net, &'static str)],
    of_v6: &[(Ipv6Net, &'static str)],
) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            of_v4.iter().find(|(network, _)| network.contains(&address)).map(|found| found.1)
        }
        IpAddr::V6(address) => {
            of_v6.iter().find(|(network, _)| network.contains(&address)).map(|found| found.1)
        }
    }
}
