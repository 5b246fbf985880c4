//! A guest's root as an initramfs: made once from the archive's packages, then kept.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Release;
use super::archive::Archive;
use crate::exec;

const INIT: &str = include_str!("init.sh");

/// Counts up when an image would be made differently, so that older ones are not used.
const RECIPE: u32 = 3;

/// What packages bring along and no test reads.
const SUPERFLUOUS: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/perl",
    "usr/share/bash-completion",
];

/// The kernel's modules that tests may need; the rest is drivers for hardware that the guest lacks.
const MODULES: [&str; 6] = ["arch", "crypto", "drivers/net/dummy.ko", "drivers/net/veth.ko", "lib", "net"];

/// A kernel and the initramfs to which an errand is added.
pub(crate) struct Image {
    /// The bootable kernel.
    pub(crate) kernel: PathBuf,
    /// The guest's root, a compressed archive.
    pub(crate) root: PathBuf,
    /// Where further files of this guest may be put.
    pub(crate) folder: PathBuf,
}

/// Makes the image of `release` with `packages` in `folder`, or takes the one that is there unless it has to be `fresh`.
///
/// # Errors
/// If the archive cannot be read or a package not be unpacked.
pub(crate) fn build(
    release: Release,
    packages: &[&'static str],
    folder: &Path,
    fresh: bool,
) -> Result<Image> {
    let image =
        Image { kernel: folder.join("vmlinuz"), root: folder.join("root.cpio.gz"), folder: folder.into() };
    let key = format!("recipe {RECIPE}, init {INIT:?}, modules {MODULES:?}, packages {packages:?}");
    let key_file = folder.join("key");
    if !fresh && fs::read_to_string(&key_file).is_ok_and(|made_of| made_of == key) {
        return Ok(image);
    }
    // Written last, so that a half-made image is never taken for a whole one.
    remove(&key_file)?;
    let archive = folder.join("apt");
    remove(&archive)?;
    let archive = Archive::open(release, archive)?;
    let root = folder.join("root");
    remove(&root)?;
    let debs = archive.download(packages)?;
    prepare(&root)?;
    eprintln!("{release}: unpacking {} packages", debs.len());
    for deb in &debs {
        unpack(deb, &root)?;
    }
    install_kernel(&archive, folder, &root, &image.kernel)?;
    configure(&root)?;
    fs::write(root.join("etc/backends"), backends(&debs))?;
    pack_compressed(&root, &image.root)?;
    remove(&root)?;
    fs::write(&key_file, key)?;
    Ok(image)
}

/// Folders whose place packages disagree on: all releases that we boot can have `/bin` and `/lib` below `/usr`.
fn prepare(root: &Path) -> Result<()> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(dir))?;
        symlink(format!("usr/{dir}"), root.join(dir))?;
    }
    for dir in ["dev", "guest", "proc", "root", "run", "srv", "sys", "tmp", "etc"] {
        fs::create_dir_all(root.join(dir))?;
    }
    Ok(())
}

/// Unpacks a package's files; its scripts are not run, see [`configure`].
fn unpack(deb: &Path, root: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let files = dpkg.stdout.take().context("standard output was asked to be a pipe")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]).arg(root);
    exec::read(tar.stdin(files)).with_context(|| format!("unpacking {}", deb.display()))?;
    if !dpkg.wait()?.success() {
        bail!("{} is no readable package; try `cargo xtask vm --fresh`", deb.display());
    }
    Ok(())
}

/// Puts the kernel beside the root and those of its modules that tests may need into it.
fn install_kernel(archive: &Archive, folder: &Path, root: &Path, kernel: &Path) -> Result<()> {
    let unpacked = folder.join("kernel");
    remove(&unpacked)?;
    let files = unpacked.join("files");
    fs::create_dir_all(&files)?;
    for deb in archive.download_kernel(&unpacked)? {
        unpack(&deb, &files)?;
    }
    let lib = if files.join("lib/modules").exists() { "lib/modules" } else { "usr/lib/modules" };
    let modules = only_entry(&files.join(lib), "")?;
    // In `/boot` up to trixie.
    let beside_modules = Some(modules.join("vmlinuz")).filter(|path| path.exists());
    let vmlinuz = beside_modules.map_or_else(|| only_entry(&files.join("boot"), "vmlinuz-"), Ok)?;
    fs::copy(vmlinuz, kernel)?;
    let version = modules.file_name().context("a folder of modules is named after its kernel")?;
    let wanted = root.join("lib/modules").join(version);
    for part in MODULES {
        let (from, to) = (modules.join("kernel").join(part), wanted.join("kernel").join(part));
        // A part may be built in, or compressed: `veth.ko.xz`.
        for suffix in ["", ".xz", ".zst"] {
            let (from, to) = (with_suffix(&from, suffix), with_suffix(&to, suffix));
            if from.exists() {
                fs::create_dir_all(to.parent().context("it has a folder")?)?;
                fs::rename(&from, &to)?;
            }
        }
    }
    // Newer kernels leave these lists to depmod.
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        if modules.join(list).exists() {
            fs::copy(modules.join(list), wanted.join(list))
                .with_context(|| format!("the kernel's {list}"))?;
        }
    }
    let depmod = exec::find("depmod")
        .context("no depmod, so the guest's modules cannot be indexed; run `cargo xtask setup`")?;
    exec::run(Command::new(depmod).arg("--basedir").arg(root).arg(version))?;
    remove(&unpacked)
}

/// What the packages' scripts would have done and a test misses.
fn configure(root: &Path) -> Result<()> {
    for file in ["passwd", "group"] {
        let master = root.join(format!("usr/share/base-passwd/{file}.master"));
        fs::copy(master, root.join("etc").join(file)).with_context(|| format!("base-passwd's {file}"))?;
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
    link(Path::new("busybox"), &root.join("bin/sh"))?;
    choose_alternatives(root)?;
    for dir in SUPERFLUOUS {
        remove(&root.join(dir))?;
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The names under which update-alternatives would have made uWSGI and its plugin known; trixie's packages have them.
fn choose_alternatives(root: &Path) -> Result<()> {
    if !root.join("usr/bin/uwsgi-core").exists() {
        return Ok(());
    }
    link(Path::new("uwsgi-core"), &root.join("usr/bin/uwsgi"))?;
    let plugins = root.join("usr/lib/uwsgi/plugins");
    let plugin = only_entry(&plugins, "python3")?;
    link(Path::new(plugin.file_name().context("an entry has a name")?), &plugins.join("python3_plugin.so"))
}

/// Makes a symbolic link unless something of its name is there.
fn link(target: &Path, name: &Path) -> Result<()> {
    match symlink(target, name) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} cannot be linked", name.display()))
        }
        _ => Ok(()),
    }
}

/// Packages of real backends, and what their programs are called.
const BACKENDS: [(&str, &str); 5] = [
    ("gunicorn", "Gunicorn"),
    ("nodejs", "Node.js"),
    ("php-fpm", "PHP-FPM"),
    ("puma", "Puma"),
    ("uwsgi-core", "uWSGI"),
];

/// The backends among these packages with their upstream versions, as `Gunicorn 20.1.0, Node.js 12.22.12, …`; the names
/// of packages' files are `php7.4-fpm_7.4.33-1+deb11u12_amd64.deb`.
fn backends(debs: &[PathBuf]) -> String {
    let version = |package: &str| {
        debs.iter().find_map(|deb| {
            let (name, rest) = deb.file_name()?.to_str()?.split_once('_')?;
            // PHP's has its version in its name too, the metapackage `php-fpm` another version.
            let numbered = |name: &str| name.contains(|c: char| c.is_ascii_digit());
            let unnumbered = name.replace(|c: char| c.is_ascii_digit() || c == '.', "");
            let is_it =
                if package == "php-fpm" { numbered(name) && unnumbered == package } else { name == package };
            let version = rest.rsplit_once("%3a").map_or(rest, |(_, version)| version);
            is_it.then(|| version.split(['-', '+', '~', '_']).next().map(str::to_owned))?
        })
    };
    let named = BACKENDS.iter().filter_map(|(package, name)| Some(format!("{name} {}", version(package)?)));
    named.collect::<Vec<_>>().join(", ")
}

/// Writes all below `root` to `file` as an initramfs that belongs to root, uncompressed.
pub(crate) fn pack(root: &Path, file: &Path) -> Result<()> {
    let mut names = Vec::new();
    list(root, Path::new(""), &mut names)?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--owner=+0:+0", "--null", "--quiet"]).current_dir(root);
    let archive = fs::File::create(file).with_context(|| file.display().to_string())?;
    let mut child = cpio
        .stdin(Stdio::piped())
        .stdout(archive)
        .spawn()
        .context("cpio does not start; run `cargo xtask setup`")?;
    let mut stdin = child.stdin.take().context("standard input was asked to be a pipe")?;
    stdin.write_all(&names).context("cpio stopped reading")?;
    drop(stdin);
    if !child.wait()?.success() {
        bail!("cpio could not pack {}", root.display());
    }
    Ok(())
}

fn pack_compressed(root: &Path, file: &Path) -> Result<()> {
    let plain = file.with_extension("");
    pack(root, &plain)?;
    exec::run(Command::new("gzip").args(["--fast", "--force"]).arg(&plain))
}

/// Appends the names of all below `dir` of `root`, folders before what is in them, each ended by a NUL.
fn list(root: &Path, dir: &Path, names: &mut Vec<u8>) -> Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let name = dir.join(entry.file_name());
        names.extend_from_slice(name.as_os_str().as_bytes());
        names.push(0);
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

/// The one entry of `dir` whose name starts with `prefix`.
fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let found =
        paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.with_context(|| format!("{} has no {prefix}…", dir.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a file or folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_have_their_upstream_versions() {
        let debs = [
            "nodejs_12.22.12~dfsg-1~deb11u8_amd64.deb",
            "php-fpm_2%3a7.4+76_all.deb",
            "php7.4-fpm_7.4.33-1+deb11u12_amd64.deb",
            "puma_4.3.8-1+deb11u2_amd64.deb",
            "python3-gunicorn_20.1.0-1_all.deb",
        ];
        assert_eq!(backends(&debs.map(PathBuf::from)), "Node.js 12.22.12, PHP-FPM 7.4.33, Puma 4.3.8");
    }
}
