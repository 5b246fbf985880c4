//! A release's archive, read through apt with lists, cache and package state of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Release;
use crate::exec;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The apt state of one guest; this machine's own is only asked for its mirrors.
pub(crate) struct Archive {
    state: PathBuf,
}

impl Archive {
    /// Fetches the package lists of `release` into `state`.
    ///
    /// # Errors
    /// If this machine's apt has no Debian mirror, or the mirror does not have the release.
    pub(crate) fn open(release: Release, state: PathBuf) -> Result<Self> {
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(state.join("cache/archives/partial"))?;
        // With no package installed, apt fetches every dependency.
        fs::write(state.join("status"), "")?;
        fs::write(state.join("sources.list"), sources(release)?)?;
        let archive = Self { state };
        exec::run(archive.apt("apt-get").args(["--quiet", "--error-on=any", "update"]))
            .with_context(|| format!("the archive of {release} cannot be read, so it cannot be tested"))?;
        Ok(archive)
    }

    /// Downloads `packages` with all that they depend on and returns the files.
    pub(crate) fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut apt = self.apt("apt-get");
        apt.args(["--quiet", "--yes", "--download-only", "--no-install-recommends", "install"]);
        exec::run(apt.args(packages))?;
        debs(&self.state.join("cache/archives"))
    }

    /// Downloads the newest kernel for virtual machines, without tools that it depends on, into the empty `folder`.
    pub(crate) fn download_kernel(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let depends =
            exec::read(self.apt("apt-cache").args(["depends", "--recurse", "linux-image-cloud-amd64"]))?;
        let kernel = kernel_packages(&depends);
        if kernel.is_empty() {
            bail!("`linux-image-cloud-amd64` depends on no kernel; has the archive changed?");
        }
        fs::create_dir_all(folder)?;
        exec::run(self.apt("apt-get").args(["--quiet", "download"]).args(kernel).current_dir(folder))?;
        debs(folder)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let state = self.state.display();
        // The sandbox's user may have no way into our folder; the signatures are checked all the same.
        command.args(["-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64"]);
        for (option, place) in [
            ("Dir::State", state.to_string()),
            ("Dir::State::Lists", format!("{state}/lists")),
            ("Dir::State::Status", format!("{state}/status")),
            ("Dir::Cache", format!("{state}/cache")),
            ("Dir::Etc::SourceList", format!("{state}/sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={place}"));
        }
        command
    }
}

/// The packages that hold the kernel itself, of `apt-cache depends --recurse`: one up to trixie, then the image was
/// split into binary and modules.
fn kernel_packages(depends: &str) -> BTreeSet<&str> {
    let is_kernel = |word: &&str| {
        let version = ["linux-image-", "linux-binary-", "linux-modules-"]
            .iter()
            .find_map(|part| word.strip_prefix(part));
        version.is_some_and(|version| {
            version.starts_with(|c: char| c.is_ascii_digit()) && version.ends_with("-cloud-amd64")
        })
    };
    depends.split_whitespace().filter(is_kernel).collect()
}

/// The packages in `folder`, in the order of their names.
fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    files.sort();
    Ok(files)
}

/// The sources of `release`, from the mirrors that this machine uses.
fn sources(release: Release) -> Result<String> {
    let mut lines = vec![source(&mirror("Debian")?, release.codename())];
    if let Some(suite) = release.security_suite() {
        lines.push(source(&mirror("Debian-Security")?, &suite));
    }
    Ok(lines.concat())
}

fn source(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")
}

/// The address from which this machine gets what carries `label`; guests use the same one.
fn mirror(label: &str) -> Result<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    let targets = exec::read(&mut ask)?;
    let mut uris = targets.lines().filter_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
    let uri = uris.next().with_context(|| {
        format!(
            "apt on this machine has no source labelled {label}; add a Debian mirror and run `apt-get update`"
        )
    })?;
    Ok(uri.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_one_package_or_several() {
        let bookworm = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: linux-doc-6.1\n";
        assert_eq!(Vec::from_iter(kernel_packages(bookworm)), ["linux-image-6.1.0-56-cloud-amd64"]);
        let sid = "linux-image-7.2-cloud-amd64\n  Depends: linux-base-7.2-cloud-amd64\n  Depends: \
                   linux-binary-7.2-cloud-amd64\n  Depends: linux-modules-7.2-cloud-amd64\n";
        let packages =
            ["linux-binary-7.2-cloud-amd64", "linux-image-7.2-cloud-amd64", "linux-modules-7.2-cloud-amd64"];
        assert_eq!(Vec::from_iter(kernel_packages(sid)), packages);
    }
}
