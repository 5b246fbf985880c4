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
