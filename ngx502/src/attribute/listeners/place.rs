//! Where a socket listens, and what a connect reaches.

use bstr::BString;

use crate::event::Endpoint;

/// What listeners are filed under: wildcards make addresses useless as a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Port(u16),
    Path(BString),
}

/// Where a listener that is bound to `endpoint` is filed, and what a connect to `endpoint` may reach.
pub(super) fn place(endpoint: &Endpoint) -> Place {
    match endpoint {
        Endpoint::Tcp(address) => Place::Port(address.port()),
        Endpoint::Unix(path) => Place::Path(path.clone()),
    }
}

/// Whether two network namespaces may be one; 0 is unknown.
pub(super) fn near(a: u32, b: u32) -> bool {
    a == b || a == 0 || b == 0
}

/// Whether a connect from one network namespace to `endpoint` reaches a socket that is `bound` in another, or the same.
pub(super) fn reaches(netns: u32, endpoint: &Endpoint, bound_netns: u32, bound: &Endpoint) -> bool {
    // Pathname sockets do not belong to a network namespace; abstract ones do.
    let pathname = matches!(endpoint, Endpoint::Unix(path) if path.first() != Some(&0));
    endpoint.reaches(bound) && (pathname || near(netns, bound_netns))
}
