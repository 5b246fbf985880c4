//! Whose an address is: the network namespaces of this host that have or had it.

use std::net::IpAddr;

use super::bounded::Bounded;
use crate::event::{AddressOwner, Endpoint, EndpointInfo, NamespaceAddresses, Nanos, Owner, ProcessRef};

/// Addresses remembered.
const ADDRESSES: usize = 8_192;
/// Namespaces remembered.
const NAMESPACES: usize = 1_024;
/// How old a look-up may be (nanoseconds) to tell of a failure: it is made when the first of a second is told.
const FRESH: u64 = 2_000_000_000;

/// Where an address leads, from one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// This network namespace has it; 0: the one from which it was asked, whose number is not known.
    Namespace(u32),
    /// No namespace of this host has it any more; this one had it.
    Former(u32),
    /// No namespace of this host has it, or had it while it was traced.
    Elsewhere,
    /// Not known.
    Unknown {
        /// The namespace from which it was asked.
        from: u32,
    },
}

impl Home {
    /// Whether a connect to `endpoint`, whose address is at home here, reaches a socket that is `bound` in a network
    /// namespace.
    pub(super) fn reaches(self, endpoint: &Endpoint, bound_netns: u32, bound: &Endpoint) -> bool {
        // Pathname sockets do not belong to a network namespace; abstract ones do.
        let pathname = matches!(bound, Endpoint::Unix(path) if path.first() != Some(&0));
        match self {
            _ if pathname => endpoint == bound,
            Home::Namespace(netns) => near(netns, bound_netns) && endpoint.reaches(bound),
            // What is bound to the very address has it; a wildcard says nothing of whose it is.
            Home::Unknown { from } => near(from, bound_netns) && endpoint == bound,
            Home::Former(netns) => netns == bound_netns && endpoint.reaches(bound),
            Home::Elsewhere => false,
        }
    }
}

/// Whether two network namespaces may be one; 0 is unknown.
pub(super) fn near(a: u32, b: u32) -> bool {
    a == b || a == 0 || b == 0
}

/// A namespace with its addresses, as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) netns: u32,
    /// A process that lived in it.
    pub(super) process: ProcessRef,
    pub(super) addresses: Vec<IpAddr>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Homes {
    /// The answers of the latest look-ups.
    owners: Bounded<IpAddr, (Nanos, AddressOwner)>,
    /// By namespace.
    tenants: Bounded<u32, (Nanos, Tenant)>,
}

impl Homes {
    pub(super) fn new() -> Self {
        Self { owners: Bounded::new(ADDRESSES), tenants: Bounded::new(NAMESPACES) }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.owners.evicted() + self.tenants.evicted()
    }

    /// A look-up's answer.
    pub(super) fn owner(&mut self, at: Nanos, found: &AddressOwner) {
        self.owners.insert(found.ip.to_canonical(), (at, *found));
    }

    /// A look-up of a place: where it was looked for is where its address leads, whoever asked.
    pub(super) fn asked(&mut self, at: Nanos, found: &EndpointInfo) {
        if let Endpoint::Tcp(address) = &found.endpoint {
            self.owner(at, &AddressOwner { ip: address.ip(), from: 0, owner: Owner::Namespace(found.netns) });
        }
    }

    /// A namespace's addresses, as they are now.
    pub(super) fn namespace(&mut self, at: Nanos, found: &NamespaceAddresses) {
        let addresses = found.addresses.iter().map(IpAddr::to_canonical).collect();
        let tenant = Tenant { netns: found.netns, process: found.process.clone(), addresses };
        self.tenants.insert(found.netns, (at, tenant));
    }

    /// Where an address leads from a namespace, by the look-up that a failure at `at` made.
    pub(super) fn of(&self, ip: IpAddr, from: u32, at: Nanos) -> Home {
        let found = self.owners.get(&ip.to_canonical());
        let fits = |found: &&(Nanos, AddressOwner)| found.0.0 + FRESH >= at.0 && near(found.1.from, from);
        match found.filter(fits).map(|(_, found)| found.owner) {
            Some(Owner::Namespace(netns)) => Home::Namespace(netns),
            Some(Owner::Nobody) => {
                self.having(ip.to_canonical()).last().map_or(Home::Elsewhere, |last| Home::Former(last.netns))
            }
            Some(Owner::Several) | None => Home::Unknown { from },
        }
    }

    /// Every namespace that was seen, the latest last.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        let mut all: Vec<_> = self.tenants.from(&0).map(|(_, known)| known).collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, tenant)| tenant)
    }

    /// A namespace as it was last seen.
    pub(super) fn tenant(&self, netns: u32) -> Option<&Tenant> {
        self.tenants.get(&netns).map(|(_, tenant)| tenant)
    }

    /// The namespaces that have or had an address, the latest last.
    pub(super) fn having(&self, ip: IpAddr) -> impl Iterator<Item = &Tenant> {
        self.tenants().filter(move |tenant| tenant.addresses.contains(&ip))
    }
}
