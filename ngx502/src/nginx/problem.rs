//! Why an executable cannot be read, or not be probed fully.

use std::{io, path::PathBuf};

/// Why an executable cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The path tried.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not a regular file, or too large to be a server's executable.
    #[error("{}: not a regular file of at most 1 GiB, so it is not read", path.display())]
    NotReadable {
        /// The path tried.
        path: PathBuf,
    },
    /// It is not a whole ELF executable.
    #[error("{}: not a valid ELF executable ({reason}), so it cannot be probed", path.display())]
    Malformed {
        /// The path tried.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is a 32-bit executable, whose structs the probes do not know.
    #[error("{}: 32-bit executables are not supported by the nginx probes; only the kernel's view is left", path.display())]
    WordSize {
        /// The path tried.
        path: PathBuf,
    },
}

/// What keeps a readable nginx binary from being probed fully.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryProblem {
    /// Neither `.dynsym` nor `.symtab` names nginx's functions.
    #[error(
        "it is statically linked and stripped, so no function can be probed and causes come from the kernel alone; \
         use an nginx that is dynamically linked or not stripped"
    )]
    StaticAndStripped,
    /// A dynamic binary that does not export its functions (linked without `-Wl,-E`) and is stripped.
    #[error(
        "it exports none of nginx's functions and is stripped, so none can be probed and causes come from the kernel \
         alone; link it with -Wl,-E, as nginx's configure does by itself, or do not strip it"
    )]
    NotExported,
    /// Some functions are there, some are not.
    #[error(
        "it lacks the symbol of {}, so failures visible only there come from the kernel alone; \
         use a build with all of nginx's symbols", .0.join(", ")
    )]
    Missing(Vec<&'static str>),
}
