//! Why an executable cannot be read, or not be probed fully.

/// Why an executable cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// What the kernel said.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not a regular file, or too large to be a server's executable.
    #[error("not a regular file of at most 1 GiB, so it is not read")]
    NotReadable,
    /// It is not a whole ELF executable, for this reason.
    #[error("not a valid ELF executable ({0}), so it cannot be probed")]
    Malformed(String),
    /// It is a 32-bit executable, whose structs the probes do not know.
    #[error("32-bit executables are not supported by the nginx probes; only the kernel's view is left")]
    WordSize,
}

impl From<object::Error> for BinaryError {
    fn from(error: object::Error) -> Self {
        Self::Malformed(error.to_string())
    }
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
