//! A file that a command writes: whole or not at all, and over nothing unless told so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

/// Where to write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Destination {
    /// Write to this file instead of stdout; its extension selects the format.
    #[arg(short = 'o', long = "output", value_name = "FILE", required = false)]
    pub path: PathBuf,
    /// Overwrite an existing file.
    #[arg(long, requires = "path")]
    pub force: bool,
}

impl Destination {
    /// Refuses what [`Destination::write`] would refuse, for those who want to know before the work.
    ///
    /// # Errors
    /// When something is there that must not be replaced.
    pub fn check(&self) -> Result<()> {
        let path = self.path.display();
        match fs::symlink_metadata(&self.path) {
            Ok(there) if !there.file_type().is_file() => {
                bail!("refusing to overwrite `{path}`, which is not a regular file: choose another name")
            }
            Ok(_) if !self.force => {
                bail!("`{path}` exists: choose another name, or overwrite it with --force")
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot stat `{path}`")),
        }
    }

    /// The format that the file's name ends in, if it is one of `F`'s.
    pub fn format<F: ValueEnum>(&self) -> Option<F> {
        F::from_str(self.path.extension()?.to_str()?, true).ok()
    }

    /// Lets `work` write the file under a name of its own, then gives it the name that was asked for.
    ///
    /// # Errors
    /// When the file cannot be created or something is there already, and what `work` fails with: nothing is left then.
    pub fn write<T>(&self, work: impl FnOnce(File) -> Result<T>) -> Result<T> {
        self.check()?;
        let unfinished = Unfinished::create(&self.path)?;
        let done = work(unfinished.file.try_clone()?)?;
        self.check()?;
        fs::rename(&unfinished.path, &self.path)
            .with_context(|| format!("cannot write `{}`", self.path.display()))?;
        Ok(done)
    }

    /// Writes a file that is in memory.
    ///
    /// # Errors
    /// As [`Destination::write`], and when there is no room.
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(|mut file| {
            file.write_all(bytes).with_context(|| format!("cannot write all of `{}`", self.path.display()))
        })
    }
}

/// A file without its name; removed unless it was renamed.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(target: &Path) -> Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            // It holds addresses and paths of clients.
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot create `{}`", target.display()))?;
        Ok(Self { path, file })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let to = Destination { path: path.clone(), force: false };
        let failed = to.write(|mut file| {
            file.write_all(b"half")?;
            bail!("no more")
        });
        let failed: Result<()> = failed;
        assert_eq!(failed.expect_err("it failed").to_string(), "no more");
        assert!(names(folder.path()).is_empty());
        to.write_bytes(b"whole").expect("room");
        assert_eq!(names(folder.path()), [path]);
    }

    #[test]
    fn nothing_is_overwritten_without_force_and_links_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        fs::write(&path, "old").expect("room");
        let refused = Destination { path: path.clone(), force: false }.write_bytes(b"new");
        assert!(refused.expect_err("it is there").to_string().contains("--force"));
        assert_eq!(fs::read(&path).expect("the file"), b"old");
        let link = folder.path().join("link");
        symlink(&path, &link).expect("a link");
        Destination { path: link, force: true }.write_bytes(b"new").expect_err("a link");
        Destination { path: path.clone(), force: true }.write_bytes(b"new").expect("forced");
        assert_eq!(fs::read(&path).expect("the file"), b"new");
        assert_eq!(names(folder.path()).len(), 2);
    }
}
