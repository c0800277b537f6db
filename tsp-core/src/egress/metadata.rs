//! The metadata services of clouds. Whoever reaches one gets the machine's credentials, so no setting opens
//! them. A new one is one line here, with who answers there; every embedding into v6 follows from it.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const METADATA_V4: [Ipv4Addr; 8] = [
    // AWS, Azure, Google, Oracle, OpenStack, DigitalOcean, Hetzner and most others: instance metadata.
    Ipv4Addr::new(169, 254, 169, 254),
    // AWS ECS: credentials of a task ("Task metadata endpoint").
    Ipv4Addr::new(169, 254, 170, 2),
    // AWS EKS: credentials of a pod ("EKS Pod Identity").
    Ipv4Addr::new(169, 254, 170, 23),
    // Tencent Cloud: instance metadata (`metadata.tencentyun.com`).
    Ipv4Addr::new(169, 254, 0, 23),
    // Scaleway: instance metadata.
    Ipv4Addr::new(169, 254, 42, 42),
    // Azure: WireServer, a public address that only virtual machines reach ("What is IP address 168.63.129.16?").
    Ipv4Addr::new(168, 63, 129, 16),
    // Alibaba Cloud: instance metadata, inside the range of carrier NAT.
    Ipv4Addr::new(100, 100, 100, 200),
    // Oracle Cloud Classic: instance metadata.
    Ipv4Addr::new(192, 0, 0, 192),
];

pub(super) const METADATA_V6: [Ipv6Addr; 8] = [
    // AWS: instance metadata on Nitro.
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    // AWS EKS: credentials of a pod.
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023),
    // Google Cloud: instance metadata.
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    // Oracle Cloud: instance metadata.
    Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    // OpenStack (Neutron): instance metadata.
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    // Scaleway: instance metadata.
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),
    // Alibaba Cloud: instance metadata.
    Ipv6Addr::new(0xfd00, 0x0100, 0, 0, 0, 0, 0x0100, 0x0200),
    // Akamai (Linode): instance metadata.
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0x0001),
];
