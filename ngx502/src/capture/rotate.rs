//! The files of a capture: created safely, written frame by frame, rotated and pruned.
//!
//! `FILE` is always the one being written; older parts are `FILE.1` (the latest) to `FILE.N`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use crate::values;

/// What a capture may overwrite, and how much disk it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
#[group(skip)]
pub struct Options {
    /// Overwrite an existing file.
    #[arg(long, requires = "capture")]
    pub force: bool,
    /// Rotate the capture at this size, e.g. 500M or 1G (FILE.1 is the newest rotated file).
    #[arg(long, requires = "capture", value_parser = values::size, value_name = "SIZE", default_value = "1G")]
    pub max_size: Option<u64>,
    /// Keep at most this many files of the capture; the oldest is deleted first.
    #[arg(long, requires = "capture", value_parser = clap::value_parser!(u32).range(1..=1000),
          value_name = "N", default_value_t = 8)]
    pub max_files: u32,
}

/// Why a capture could not be created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// Something is there already.
    #[error("`{0}` exists: choose another name, or overwrite it with --force")]
    Exists(PathBuf),
    /// What is there cannot be replaced by a file, forced or not.
    #[error("refusing to write the capture to `{0}`, which is not a regular file: choose another name")]
    NotAFile(PathBuf),
    /// The system refuses.
    #[error("cannot create the capture `{0}`: choose a directory that exists and is writable")]
    System(PathBuf, #[source] io::Error),
}

/// Whether a capture could be created at `path`, for those who want to know before there is anything to write. Changes
/// nothing.
///
/// # Errors
/// Those of creating it, as far as a look can tell.
pub fn check(path: &Path, options: Options) -> Result<(), CreateError> {
    names(path, options).try_for_each(|name| look(&name, options.force).map(drop))
}

/// The current file and its place.
pub(super) struct Files {
    path: PathBuf,
    options: Options,
    file: File,
    /// Bytes of whole frames in the current file.
    size: u64,
}

impl Files {
    /// Creates the first file: mode 0600, never through a symbolic link, over nothing unless `force`.
    pub(super) fn create(path: &Path, options: Options) -> Result<Files, CreateError> {
        names(path, options).try_for_each(|name| make_way(&name, options.force))?;
        let file = open_new(path).map_err(|error| match error.kind() {
            // Someone was faster between the look and the open; whatever it is, it is not ours.
            io::ErrorKind::AlreadyExists => CreateError::Exists(path.to_owned()),
            _ => CreateError::System(path.to_owned(), error),
        })?;
        Ok(Files { path: path.to_owned(), options, file, size: 0 })
    }

    /// A file that is open already, for tests of failing writes.
    #[cfg(test)]
    pub(super) fn over(path: &Path, file: File) -> Files {
        Files { path: path.to_owned(), options: Options::default(), file, size: 0 }
    }

    /// The current file's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `more` bytes would exceed the limit of the current file, which is not empty.
    pub(super) fn is_full(&self, more: u64) -> bool {
        self.size > 0 && self.options.max_size.is_some_and(|max| self.size + more > max)
    }

    /// Appends whole frames. After an error the file ends where it ended before, if the system lets it.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A reader copes with a torn frame as well: this only spares it the message.
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    /// Moves every part one number up, drops the oldest and begins an empty current file.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let kept = self.options.max_files.max(1);
        if kept == 1 {
            fs::remove_file(&self.path)?;
        }
        for number in (1..kept).rev() {
            match fs::rename(part(&self.path, number - 1), part(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open_new(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// The name of a part; 0 is the current one.
fn part(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Every name that a capture will use: rotation renames over those of its parts, so they must be free or given up too.
fn names(path: &Path, options: Options) -> impl Iterator<Item = PathBuf> {
    let parts = options.max_size.map_or(0, |_| options.max_files.max(1) - 1);
    (0..=parts).map(|number| part(path, number))
}

/// Makes sure that nothing is at `path`: removes a regular file if `force`, refuses anything else.
fn make_way(path: &Path, force: bool) -> Result<(), CreateError> {
    if look(path, force)? {
        fs::remove_file(path).map_err(|error| CreateError::System(path.to_owned(), error))?;
    }
    Ok(())
}

/// Whether a file is there that `force` lets go.
fn look(path: &Path, force: bool) -> Result<bool, CreateError> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_file() => Err(CreateError::NotAFile(path.to_owned())),
        Ok(_) if !force => Err(CreateError::Exists(path.to_owned())),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CreateError::System(path.to_owned(), error)),
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
}
