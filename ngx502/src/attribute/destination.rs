//! Where a connect of nginx's leads on this host: the same address is one container's in one network namespace, another
//! host's in a second, and translated to a third one's in a third.

use super::attempt::FailedAttempt;
use super::homes::Home;
use super::world::World;
use crate::event::{Endpoint, Nanos, Socket};

/// How old a look-up may be (nanoseconds) to be this failure's: one of a place is made each second.
const LOOK_UP_AGE: u64 = 1_000_000_000;

/// A place to listen at, as whoever listens there would name it.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) endpoint: Endpoint,
    pub(super) home: Home,
    /// Whether the kernel was seen to deliver there; else the home follows from the address.
    pub(super) delivered: bool,
}

impl Destination {
    /// Where an attempt's connect led.
    pub(super) fn of(world: &World, failure: &FailedAttempt) -> Option<Self> {
        let endpoint = failure.endpoint()?;
        if let Some(delivered) =
            failure.socket.as_deref().and_then(|socket| Self::delivered(socket, failure.at))
        {
            return Some(delivered);
        }
        let own = failure.own_address();
        // Without a socket, the look-up that this failure made tells where nginx is.
        let netns = Some(failure.netns()).filter(|netns| *netns != 0).or_else(|| {
            let (at, info) = world.endpoints.get(&endpoint)?;
            (own && at.0 + LOOK_UP_AGE >= failure.at.0).then_some(info.netns)
        });
        let netns = netns.unwrap_or(0);
        let home = match &endpoint {
            Endpoint::Tcp(address) if !own => world.homes.of(address.ip(), netns, failure.at),
            Endpoint::Tcp(_) | Endpoint::Unix(_) => Home::Namespace(netns),
        };
        Some(Self { endpoint, home, delivered: own })
    }

    /// Where the kernel was seen to deliver a segment of a socket.
    pub(super) fn delivered(socket: &Socket, at: Nanos) -> Option<Self> {
        let (address, netns) = socket.delivered(at)?;
        Some(Self { endpoint: Endpoint::Tcp(address), home: Home::Namespace(netns), delivered: true })
    }

    /// A place that is known to be in this namespace; 0: in whichever it is.
    pub(super) fn within(netns: u32, endpoint: Endpoint) -> Self {
        Self { endpoint, home: Home::Namespace(netns), delivered: false }
    }

    /// Whether it is on this host, as far as records can tell.
    pub(super) fn is_here(&self, world: &World) -> bool {
        match self.home {
            Home::Namespace(_) => true,
            Home::Unknown { .. } => {
                world.listeners.living(self).next().is_some() || world.listeners.gone(self).next().is_some()
            }
            Home::Former(_) | Home::Elsewhere => false,
        }
    }

    /// Whether no network namespace of this host has it, or had it.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.home == Home::Elsewhere
    }

    /// Its network namespace on this host, where that is known.
    pub(super) fn namespace(&self) -> Option<u32> {
        match self.home {
            Home::Namespace(netns) | Home::Former(netns) => Some(netns).filter(|netns| *netns != 0),
            Home::Unknown { .. } | Home::Elsewhere => None,
        }
    }

    /// The same place in each namespace that had the address and was connected to this one.
    pub(super) fn formers(&self, world: &World, from: u32) -> impl Iterator<Item = Self> {
        let ip = match &self.endpoint {
            Endpoint::Tcp(address) => Some(address.ip().to_canonical()),
            Endpoint::Unix(_) => None,
        };
        let tenants = ip.into_iter().flat_map(move |ip| world.homes.having(ip, from));
        tenants.map(|tenant| Self { home: Home::Former(tenant.netns), ..self.clone() })
    }

    /// Whether the address left this host with the namespace that had it.
    pub(super) fn is_former(&self) -> bool {
        matches!(self.home, Home::Former(_))
    }

    /// The namespace of a connect that ends in another one than it began in.
    pub(super) fn other_netns(&self, from: u32) -> Option<u32> {
        match self.home {
            Home::Namespace(netns) if netns != 0 && from != 0 && netns != from => Some(netns),
            _ => None,
        }
    }
}
