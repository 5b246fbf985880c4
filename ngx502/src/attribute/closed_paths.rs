//! Under which other names a listener that ended may have been reached: the path that a socket is bound to need not be
//! the one that nginx connects to. Links, mounts and relative paths keep the file's name, a rename keeps its directory.

use bstr::{BString, ByteSlice};

use super::bounded::Bounded;
use crate::event::Endpoint;

/// Names remembered.
const NAMES: usize = 8_192;

/// The paths at which listeners ended, by file name and by directory (which ends in `/`).
#[derive(Debug)]
pub(super) struct ClosedPaths(Bounded<BString, BString>);

impl ClosedPaths {
    pub(super) fn new() -> Self {
        Self(Bounded::new(NAMES))
    }

    /// A listener ended that was bound there. Addresses and abstract names have no others.
    pub(super) fn add(&mut self, bound: &Endpoint) {
        let Some(path) = pathname(bound) else { return };
        let (directory, file) = split(path);
        for key in [directory, file].into_iter().filter(|key| !key.is_empty()) {
            self.0.insert(key.into(), path.clone());
        }
    }

    /// The last path at which a listener ended that may have been the one at `endpoint`.
    pub(super) fn alike(&self, endpoint: &Endpoint) -> Option<&BString> {
        let (directory, file) = split(pathname(endpoint)?);
        self.0.get(&file.into()).or_else(|| self.0.get(&directory.into()))
    }

    pub(super) fn evicted(&self) -> u64 {
        self.0.evicted()
    }
}

fn pathname(endpoint: &Endpoint) -> Option<&BString> {
    match endpoint {
        Endpoint::Unix(path) if path.first() != Some(&0) => Some(path),
        _ => None,
    }
}

fn split(path: &BString) -> (&[u8], &[u8]) {
    path.split_at(path.rfind_byte(b'/').map_or(0, |slash| slash + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Endpoint {
        Endpoint::Unix(path.into())
    }

    #[test]
    fn a_name_is_alike_by_its_file_or_its_directory() {
        let mut names = ClosedPaths::new();
        names.add(&unix("/srv/a/app.sock"));
        names.add(&unix("php.sock"));
        let alike = |path: &str| names.alike(&unix(path)).map(BString::to_string);
        for path in ["/run/b/app.sock", "/srv/a/other.sock", "/srv/a/app.sock"] {
            assert_eq!(alike(path).as_deref(), Some("/srv/a/app.sock"), "{path}");
        }
        assert_eq!(alike("/run/php.sock").as_deref(), Some("php.sock"));
        for path in ["/srv/other.sock", "other.sock", "/run/a", ""] {
            assert_eq!(alike(path), None, "{path}");
        }
    }

    #[test]
    fn abstract_names_and_addresses_have_no_other() {
        let mut names = ClosedPaths::new();
        names.add(&unix("\0app.sock"));
        names.add(&Endpoint::Tcp("127.0.0.1:80".parse().expect("an address")));
        assert_eq!(names.alike(&unix("/run/app.sock")), None);
        assert_eq!(names.alike(&unix("\0app.sock")), None);
    }
}
