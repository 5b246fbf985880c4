//! nginx among other people's: one executable below several mounts, and mounts that come and go.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use xtask::lab::faults::{self, Fault};
use xtask::lab::{Testbed, nginx, wait};

use crate::tracer::Tracer;
use crate::{outcome_of, skip};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("strangers::one-file-below-two-mounts", || {
            if let Err(error) = Image::create().and_then(|image| image.mounted("probe")) {
                skip!(format!("{error:#}"));
            }
            outcome_of(one_file_below_two_mounts)
        }),
        Trial::test("strangers::needless-privileges-are-given-up", || outcome_of(privileges_are_given_up)),
    ]
}

fn refused() -> &'static Fault {
    faults::named("refused-nobody")
}

/// An image with nginx in it.
struct Image {
    directory: tempfile::TempDir,
}

/// The image as one container has it; unmounted when this drops.
struct Mounted(PathBuf);

impl Image {
    fn create() -> Result<Image> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("image"))?;
        fs::copy(nginx::binary(), directory.path().join("image/nginx"))?;
        Ok(Image { directory })
    }

    /// An overlay of its own over it.
    fn mounted(&self, name: &str) -> Result<Mounted> {
        let part = |part: &str| self.directory.path().join(format!("{name}-{part}"));
        for name in ["upper", "work", "root"] {
            fs::create_dir(part(name))?;
        }
        let lower = self.directory.path().join("image");
        let options = [("lowerdir", lower), ("upperdir", part("upper")), ("workdir", part("work"))]
            .map(|(key, path)| format!("{key}={}", path.display()))
            .join(",");
        let kind = Some(OsStr::new("overlay"));
        mount(kind, &part("root"), kind, MsFlags::empty(), Some(OsStr::new(&options)))
            .context("an overlay cannot be mounted (root, and a kernel with overlayfs, are needed)")?;
        Ok(Mounted(part("root")))
    }
}

impl Mounted {
    fn nginx(&self) -> PathBuf {
        self.0.join("nginx")
    }

    /// Whether nothing holds it any more.
    fn is_released(&self) -> bool {
        umount(&self.0).is_ok()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may have been unmounted.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// How many BPF programs are attached by a process's descriptors.
fn attached(pid: u32) -> Result<usize> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let is_attachment = |path: &Path| {
        let what = fs::read_link(path).unwrap_or_default();
        ["anon_inode:bpf_link", "anon_inode:[perf_event]"].iter().any(|kind| what == Path::new(kind))
    };
    let all = directory.read_dir()?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(all.filter(|path| is_attachment(path)).count())
}

/// Of each thread, and for good: what it reads is written by strangers.
fn privileges_are_given_up() -> Result<()> {
    const KILL: u64 = 1 << 5;
    const SETUID: u64 = 1 << 7;
    const SYS_MODULE: u64 = 1 << 16;
    const SYS_RAWIO: u64 = 1 << 17;
    let testbed = Testbed::start(&[refused()], |_| {})?;
    let mut tracer = Tracer::start(testbed.lab().master(), &[])?;
    for thread in fs::read_dir(format!("/proc/{}/task", tracer.pid()))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("no {name} in {status}"))
        };
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            let held = u64::from_str_radix(field(set)?, 16)?;
            ensure!(held & (KILL | SETUID | SYS_MODULE | SYS_RAWIO) == 0, "{set} {held:#x}");
        }
        ensure!(field("NoNewPrivs:")? == "1", "it may gain privileges: {status}");
    }
    let uri = testbed.fire("refused-nobody")?.uri;
    tracer.wait_for_uri("verdict", &uri)?;
    tracer.stop().map(drop)
}

/// Two containers of one image run one file: it is probed once, each failure is told once, and no mount is held for longer
/// than somebody runs nginx from it.
fn one_file_below_two_mounts() -> Result<()> {
    let image = Image::create()?;
    let (first, second) = (image.mounted("first")?, image.mounted("second")?);
    let one = Testbed::start(&[refused()], |config| config.binary = Some(first.nginx()))?;
    let pid = |testbed: &Testbed| testbed.lab().master().to_string();
    let alone = {
        let tracer = Tracer::start(one.lab().master(), &[])?;
        let alone = attached(tracer.pid())?;
        tracer.stop()?;
        alone
    };
    let two = Testbed::start(&[refused()], |config| config.binary = Some(second.nginx()))?;
    let mut tracer = Tracer::start_with(&["--pid", &pid(&one), "--pid", &pid(&two)])?;
    let together = attached(tracer.pid())?;
    ensure!(together == alone, "{together} attachments for two mounts of a file, {alone} for one");
    let mut uris = vec![one.fire("refused-nobody")?.uri, two.fire("refused-nobody")?.uri];
    for uri in &uris {
        tracer.wait_for_uri("verdict", uri)?;
    }

    drop(one);
    wait::until("the first mount to be released", Duration::from_secs(20), || {
        first.is_released().then_some(())
    })?;
    uris.push(two.fire("refused-nobody")?.uri);
    tracer.wait_for_uri("verdict", uris.last().context("it was fired")?)?;

    drop(two);
    wait::until("the second mount to be released", Duration::from_secs(20), || {
        second.is_released().then_some(())
    })?;
    let said = tracer.stop()?;
    ensure!(said.verdicts.len() == uris.len(), "one verdict each: {:?}", said.verdicts);
    Ok(())
}
