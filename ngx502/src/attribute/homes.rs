//! Whose an address is: the network namespaces of this host that have or had it.

use std::collections::HashSet;
use std::net::IpAddr;

use super::bounded::Bounded;
use crate::event::{
    AddressOwner, Endpoint, EndpointInfo, Links, NamespaceAddresses, Nanos, Owner, ProcessRef,
};

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
    links: Option<Links>,
}

impl Tenant {
    fn leads_to(&self, netns: u32) -> bool {
        self.links.as_ref().is_some_and(|links| links.to.contains(&netns))
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Homes {
    /// The answers of the latest look-ups.
    owners: Bounded<IpAddr, (Nanos, AddressOwner)>,
    /// By namespace.
    tenants: Bounded<u32, (Nanos, Tenant)>,
    /// Those that lost an address, by number and by when that was seen: often another namespace, since the kernel gives
    /// the number of one that is gone to the next that is made.
    past: Bounded<(u32, Nanos), Tenant>,
}

impl Homes {
    pub(super) fn new() -> Self {
        Self {
            owners: Bounded::new(ADDRESSES),
            tenants: Bounded::new(NAMESPACES),
            past: Bounded::new(NAMESPACES),
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.owners.evicted() + self.tenants.evicted() + self.past.evicted()
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
        let addresses: Vec<_> = found.addresses.iter().map(IpAddr::to_canonical).collect();
        if let Some((_, before)) = self.tenants.get(&found.netns)
            && before.addresses.iter().any(|ip| !addresses.contains(ip))
        {
            self.past.insert((found.netns, at), before.clone());
        }
        let tenant = Tenant {
            netns: found.netns,
            process: found.process.clone(),
            addresses,
            links: found.links.clone(),
        };
        self.tenants.insert(found.netns, (at, tenant));
    }

    /// Where an address leads from a namespace, by the look-up that a failure at `at` made.
    pub(super) fn of(&self, ip: IpAddr, from: u32, at: Nanos) -> Home {
        let found = self.owners.get(&ip.to_canonical());
        let fits = |found: &&(Nanos, AddressOwner)| found.0.0 + FRESH >= at.0 && near(found.1.from, from);
        match found.filter(fits).map(|(_, found)| found.owner) {
            Some(Owner::Namespace(netns)) => Home::Namespace(netns),
            Some(Owner::Nobody) => self
                .having(ip.to_canonical(), from)
                .last()
                .map_or(Home::Elsewhere, |last| Home::Former(last.netns)),
            Some(Owner::Several) | None => Home::Unknown { from },
        }
    }

    /// Every namespace that was seen, the latest last; one that lost an address as it was before, too.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        let past = self.past.from(&(0, Nanos(0))).map(|((_, until), tenant)| (until, tenant));
        let mut all: Vec<_> = past.chain(self.now()).collect();
        all.sort_by_key(|(at, _)| **at);
        all.into_iter().map(|(_, tenant)| tenant)
    }

    /// Whether what was in a namespace at a time can have been at an address; true where that is not known. A listener that
    /// ended before the namespace's number was another one's was not.
    pub(super) fn had(&self, netns: u32, ip: IpAddr, at: Nanos) -> bool {
        let then = self.past.from(&(netns, at)).next().filter(|((of, _), _)| *of == netns);
        then.is_none_or(|(_, tenant)| ip.is_loopback() || tenant.addresses.contains(&ip.to_canonical()))
    }

    fn now(&self) -> impl Iterator<Item = (&Nanos, &Tenant)> {
        self.tenants.from(&0).map(|(_, (at, tenant))| (at, tenant))
    }

    /// A namespace as it was last seen.
    pub(super) fn tenant(&self, netns: u32) -> Option<&Tenant> {
        self.tenants.get(&netns).map(|(_, tenant)| tenant)
    }

    /// The namespaces that have or had an address and are or were connected to another one, the latest last.
    pub(super) fn having(&self, ip: IpAddr, from: u32) -> impl Iterator<Item = &Tenant> {
        self.tenants().filter(move |tenant| tenant.addresses.contains(&ip) && self.connected(from, tenant))
    }

    /// Whether packets may go, or went, from one namespace to another, directly or through others; true where that is
    /// not known.
    fn connected(&self, from: u32, to: &Tenant) -> bool {
        let (Some(start), Some(end)) = (self.tenant(from), &to.links) else { return true };
        if start.links.is_none() || from == to.netns {
            return true;
        }
        let (mut seen, mut next, mut outside) = (HashSet::from([from]), vec![start], false);
        while let Some(netns) = next.pop() {
            outside |= netns.links.as_ref().is_some_and(|links| links.outside);
            // Both ends are asked: the one that is gone was in neither's list when the other was seen last.
            let linked = |other: &&Tenant| netns.leads_to(other.netns) || other.leads_to(netns.netns);
            if linked(&to) {
                return true;
            }
            let near = self.now().map(|(_, tenant)| tenant).filter(linked);
            next.extend(near.filter(|tenant| seen.insert(tenant.netns)));
        }
        outside && end.outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 89, 0, 3));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 89, 0, 4));

    fn seen(homes: &mut Homes, at: u64, netns: u32, addresses: &[IpAddr], to: &[u32]) {
        let links = Some(Links { to: to.to_vec(), outside: false });
        let addresses = addresses.to_vec();
        homes.namespace(Nanos(at), &NamespaceAddresses { netns, addresses, links, ..Default::default() });
    }

    /// nginx in 1, which is linked to 2; nobody has the address by now.
    fn nobodys(at: u64, others: impl FnOnce(&mut Homes)) -> Home {
        let mut homes = Homes::new();
        seen(&mut homes, 1, 1, &[], &[2]);
        others(&mut homes);
        homes.owner(Nanos(at), &AddressOwner { ip: IP, from: 1, owner: Owner::Nobody });
        homes.of(IP, 1, Nanos(at))
    }

    #[test]
    fn an_address_left_with_the_namespace_that_was_connected_not_with_its_namesake_elsewhere() {
        let former = nobodys(9, |homes| {
            seen(homes, 2, 2, &[], &[1]);
            seen(homes, 3, 3, &[IP], &[2]);
            seen(homes, 4, 8, &[IP], &[9]);
            seen(homes, 4, 9, &[], &[8]);
        });
        assert_eq!(former, Home::Former(3));
        assert_eq!(nobodys(9, |homes| seen(homes, 4, 8, &[IP], &[9])), Home::Elsewhere);
    }

    #[test]
    fn a_number_that_is_another_namespaces_by_now_is_remembered_with_its_former_address() {
        let former = nobodys(9, |homes| {
            seen(homes, 2, 3, &[IP], &[1]);
            seen(homes, 5, 3, &[OTHER], &[7]);
        });
        assert_eq!(former, Home::Former(3));
    }

    #[test]
    fn what_ended_in_a_namespace_without_the_address_was_not_there() {
        let mut homes = Homes::new();
        seen(&mut homes, 2, 3, &[OTHER], &[1]);
        // A second address does not make it another one.
        seen(&mut homes, 4, 3, &[OTHER, IP], &[1]);
        assert!(homes.had(3, IP, Nanos(3)) && homes.had(3, OTHER, Nanos(3)));
        let mut reused = Homes::new();
        seen(&mut reused, 2, 3, &[OTHER], &[1]);
        seen(&mut reused, 4, 3, &[IP], &[1]);
        assert!(!reused.had(3, IP, Nanos(3)) && reused.had(3, IP, Nanos(5)));
        assert!(reused.had(7, IP, Nanos(3)), "of an unknown one");
    }
}
