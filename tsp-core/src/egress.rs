//! Where callbacks may go: the shape of their URLs and the addresses behind them (reference
//! http-callbacks sections 2 and 3). Checked when a config is saved, and again at each attempt on
//! the addresses that were looked up.

mod metadata;
mod networks;

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

/// The longest URL in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// Ports from 1024 on that speak something else than HTTP to a well-behaved client: databases,
/// queues and control planes that a forged request could harm.
const REFUSED_PORTS: [u16; 20] = [
    1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4150, 4151, 4160, 4161, 5432, 5672, 6379,
    9300, 10250, 11211,
];

/// Why a target is refused. It names the rule, never what was found behind the address.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum EgressDenied {
    #[error("must be an absolute http or https URL")]
    Malformed,
    #[error("must be at most {URL_BYTES_MAX} bytes")]
    Length,
    #[error("must have the scheme http or https")]
    Scheme,
    #[error("may hold no user name or password")]
    UserInfo,
    #[error("port {0} is not allowed")]
    Port(u16),
    /// The name of the network in the address table.
    #[error("the address belongs to a refused network ({0})")]
    Address(&'static str),
}

/// What the operator allows. Immutable, so it may be shared and its answers remembered.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    allow_networks: Vec<IpNet>,
}

/// A URL whose shape, and whose address if it is a literal one, the policy allows. A host name still
/// has to be looked up, and all its addresses checked with [`EgressPolicy::check_address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUrl {
    url: Url,
    host: Host<String>,
    port: u16,
}

impl EgressPolicy {
    /// `allow_networks` (setting `worker.http.allow_networks`) opens parts of the refused networks,
    /// such as the operator's own private ones. It never opens the metadata addresses of clouds,
    /// unspecified and multicast addresses.
    pub fn new(allow_networks: Vec<IpNet>) -> Self {
        Self { allow_networks }
    }

    /// Checks the shape of a URL and, where its host is an address, that address.
    pub fn check_url(&self, text: &str) -> Result<CheckedUrl, EgressDenied> {
        if text.len() > URL_BYTES_MAX {
            return Err(EgressDenied::Length);
        }
        // The parser drops some of these silently; nobody who means well sends them.
        if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\') {
            return Err(EgressDenied::Malformed);
        }
        let mut url = Url::parse(text).map_err(|_| EgressDenied::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressDenied::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressDenied::UserInfo);
        }
        let port = url.port_or_known_default().ok_or(EgressDenied::Malformed)?;
        check_port(port)?;
        let host = url.host().ok_or(EgressDenied::Malformed)?.to_owned();
        match &host {
            Host::Ipv4(address) => self.check_address(IpAddr::V4(*address))?,
            Host::Ipv6(address) => self.check_address(IpAddr::V6(*address))?,
            Host::Domain(name) => check_host_name(name)?,
        }
        url.set_fragment(None);
        // Percent-encoding may have made it longer.
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(EgressDenied::Length);
        }
        Ok(CheckedUrl { url, host, port })
    }

    /// Checks one address, literal or looked up.
    pub fn check_address(&self, address: IpAddr) -> Result<(), EgressDenied> {
        let address = address.to_canonical();
        if let Some(name) = networks::locked(address) {
            return Err(EgressDenied::Address(name));
        }
        match networks::refused(address) {
            Some(name) if !self.allows(address) => Err(EgressDenied::Address(name)),
            // An opened translation network must not lead to what is itself refused.
            _ => networks::embedded(address).into_iter().try_for_each(|inner| self.check_address(inner)),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow_networks.iter().any(|network| network.contains(&address))
    }
}

fn check_port(port: u16) -> Result<(), EgressDenied> {
    let allowed = matches!(port, 80 | 443) || port >= 1024 && !REFUSED_PORTS.contains(&port);
    if allowed { Ok(()) } else { Err(EgressDenied::Port(port)) }
}

/// A name as DNS can hold it: at most 253 bytes in labels of 1 to 63, a trailing full stop aside.
fn check_host_name(name: &str) -> Result<(), EgressDenied> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let good = name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()));
    if good { Ok(()) } else { Err(EgressDenied::Malformed) }
}

impl CheckedUrl {
    /// Normalised, without a fragment.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Path and query, as they stand in the first line of a request.
    pub fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..]
    }

    /// The value of the `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> &str {
        self.url.authority()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn open(networks: &[&str]) -> EgressPolicy {
        EgressPolicy::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn every_spelling_of_a_refused_address_is_refused() {
        let refused = [
            "http://127.0.0.1/",
            "HTTP://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://127。0。0。1/",
            "http://１２７.0.0.1/",
            "http://%31%32%37.0.0.1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::1]/",
            "http://[::ffff:0:7f00:1]/",
            "http://[::ffff:0:a00:1]/",
            "http://[2001:4860::5efe:a00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:1::1]/",
            "http://[fe80::1]/",
            "http://[fc00::1]/",
            "http://[ff02::1]/",
            "http://[fd00:ec2::254]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://172.16.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1:8080/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ];
        for url in refused {
            let answer = EgressPolicy::default().check_url(url);
            assert!(matches!(answer, Err(EgressDenied::Address(_))), "{url}: {answer:?}");
        }
    }

    #[test]
    fn the_shape_is_checked() {
        let cases = [
            ("file:///etc/passwd", EgressDenied::Scheme),
            ("gopher://example.com/", EgressDenied::Scheme),
            ("ftp://example.com/", EgressDenied::Scheme),
            ("http://user@example.com/", EgressDenied::UserInfo),
            ("http://:secret@example.com/", EgressDenied::UserInfo),
            ("http://example.com:0/", EgressDenied::Port(0)),
            ("http://example.com:22/", EgressDenied::Port(22)),
            ("http://example.com:3306/", EgressDenied::Port(3306)),
            ("http://example.com:4150/", EgressDenied::Port(4150)),
            ("http://", EgressDenied::Malformed),
            ("http://./", EgressDenied::Malformed),
            ("http://a..b/", EgressDenied::Malformed),
            ("/relative", EgressDenied::Malformed),
            ("http://exa\nmple.com/", EgressDenied::Malformed),
            ("http://example.com/a b", EgressDenied::Malformed),
            ("http:\\\\example.com", EgressDenied::Malformed),
            ("http://example.com:99999/", EgressDenied::Malformed),
        ];
        for (url, why) in cases {
            assert_eq!(EgressPolicy::default().check_url(url), Err(why), "{url}");
        }
        let long = format!("http://example.com/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(EgressPolicy::default().check_url(&long), Err(EgressDenied::Length));
    }

    #[test]
    fn a_good_url_is_normalised_and_taken_apart() {
        let url = EgressPolicy::default().check_url("HTTPS://Example.COM:443/a/../b?q=1#part").unwrap();
        assert_eq!(url.as_str(), "https://example.com/b?q=1");
        assert_eq!(url.path_and_query(), "/b?q=1");
        assert_eq!((url.authority(), url.port(), url.is_https()), ("example.com", 443, true));
        let url = EgressPolicy::default().check_url("http://1.1.1.1:8080").unwrap();
        assert_eq!((url.authority(), url.path_and_query()), ("1.1.1.1:8080", "/"));
    }

    #[test]
    fn an_allowed_network_opens_what_may_be_opened() {
        let policy = open(&["127.0.0.0/8", "10.1.0.0/16", "::1/128"]);
        for url in
            ["http://127.0.0.1:8080/", "http://10.1.2.3/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"]
        {
            assert!(policy.check_url(url).is_ok(), "{url}");
        }
        assert!(policy.check_url("http://10.2.0.1/").is_err());

        let all = open(&["0.0.0.0/0", "::/0"]);
        for url in [
            "http://169.254.169.254/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://0.0.0.1/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://[ff02::1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
        ] {
            assert!(all.check_url(url).is_err(), "{url}");
        }
        assert!(all.check_url("http://169.254.0.1/").is_ok());
        // A translation network opened alone still leads nowhere private.
        let nat64 = open(&["64:ff9b::/96"]);
        assert!(nat64.check_url("http://[64:ff9b::101:101]/").is_ok());
        assert!(nat64.check_url("http://[64:ff9b::a00:1]/").is_err());
        let local = open(&["64:ff9b:1::/48", "::ffff:0:0:0/96"]);
        assert!(local.check_url("http://[64:ff9b:1::101:101]/").is_ok());
        assert!(local.check_url("http://[64:ff9b:1::a00:1]/").is_err());
        assert!(local.check_url("http://[64:ff9b:1:a00:0:100::]/").is_err());
        assert!(local.check_url("http://[::ffff:0:101:101]/").is_ok());
        assert!(local.check_url("http://[::ffff:0:a00:1]/").is_err());
    }

    #[test]
    fn public_addresses_are_free() {
        for address in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860::8888"]
        {
            assert_eq!(EgressPolicy::default().check_address(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    /// `address` in the last 32 bits of a prefix.
    fn behind(prefix: &str, address: Ipv4Addr) -> u128 {
        prefix.parse::<Ipv6Addr>().unwrap().to_bits() | u128::from(address.to_bits())
    }

    /// Every way to write `address` in v6. `free` fills the bits that have no meaning.
    fn embeddings(address: Ipv4Addr, free: u128) -> Vec<(&'static str, u128)> {
        let v4 = u128::from(address.to_bits());
        let free = |bits: u32| free & ((1 << bits) - 1);
        let local_nat64 = 0x0064_ff9b_0001_u128 << 80;
        let (head16, tail16) = (v4 >> 16, v4 & 0xffff);
        let (head8, tail24) = (v4 >> 24, v4 & 0xff_ffff);
        vec![
            ("mapped", behind("::ffff:0:0", address)),
            ("compatible", behind("::", address)),
            ("translated", behind("::ffff:0:0:0", address)),
            ("NAT64", behind("64:ff9b::", address)),
            ("local NAT64 /48", local_nat64 | head16 << 64 | tail16 << 40 | free(40)),
            ("local NAT64 /56", local_nat64 | head8 << 64 | tail24 << 32 | free(32)),
            ("local NAT64 /64", local_nat64 | v4 << 24 | free(24)),
            ("local NAT64 /96", local_nat64 | free(48) << 32 | v4),
            ("6to4", 0x2002 << 112 | v4 << 80 | free(80)),
            ("Teredo", 0x2001 << 112 | free(64) << 32 | (!v4 & 0xffff_ffff)),
            ("ISATAP", free(64) << 64 | 0x5efe << 32 | v4),
        ]
    }

    #[test]
    fn a_metadata_service_is_never_reached_by_name_of_its_address() {
        let all = open(&["0.0.0.0/0", "::/0"]);
        let services = [
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.0.23",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:100::100:200",
            "fe80::a9fe:a9fe",
        ];
        for service in services {
            let answer = all.check_address(service.parse().unwrap());
            assert_eq!(answer, Err(EgressDenied::Address("cloud metadata")), "{service}");
        }
    }

    proptest! {
        #[test]
        fn no_embedding_leads_to_a_metadata_service(free in any::<u128>()) {
            let all = open(&["0.0.0.0/0", "::/0"]);
            for service in metadata::METADATA_V4 {
                for (way, bits) in embeddings(service, free) {
                    let answer = all.check_address(Ipv6Addr::from_bits(bits).into());
                    prop_assert!(answer.is_err(), "{service} as {way}: {}", Ipv6Addr::from_bits(bits));
                }
            }
        }

        #[test]
        fn no_embedding_leads_to_what_is_refused_itself(a in any::<u32>(), free in any::<u128>()) {
            let networks = ["64:ff9b::/96", "64:ff9b:1::/48", "::/96", "2002::/16", "2001::/32", "::ffff:0:0:0/96"];
            let translations = open(&networks);
            let address = Ipv4Addr::from_bits(a);
            let refused = translations.check_address(address.into()).is_err();
            for (way, bits) in embeddings(address, free) {
                let inner = Ipv6Addr::from_bits(bits);
                // Local NAT64 has other things in its place for 0.0.0.0/8.
                let zeros = way.starts_with("local") && address.octets()[0] == 0;
                if refused && !zeros {
                    prop_assert!(translations.check_address(inner.into()).is_err(), "{way}: {inner}");
                }
            }
        }

        #[test]
        fn any_text_is_checked_without_a_panic(text in "\\PC{0,60}") {
            if let Ok(url) = EgressPolicy::default().check_url(&text) {
                // What was allowed once stays allowed in its normal form.
                prop_assert_eq!(EgressPolicy::default().check_url(url.as_str()), Ok(url.clone()));
            }
        }

        #[test]
        fn no_private_literal_passes(a in any::<u32>()) {
            let address = std::net::Ipv4Addr::from_bits(a);
            let denied = EgressPolicy::default().check_url(&format!("http://{a}/")).is_err();
            if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast() {
                prop_assert!(denied);
            }
        }
    }
}
