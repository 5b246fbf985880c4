//! One nginx executable with its probes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use aya::programs::uprobe::UProbeLinkId;
use bstr::BString;
use ngx502_common::config::Traced;

use super::logs::LogRate;
use crate::kernel::load::Kernel;
use crate::kernel::providers::{LOG, UPROBES, Uprobe, When};
use crate::nginx::{Binary, BinaryId, layout};
use crate::proc::clock;

/// What `auth_request` says of a status that it does not know. The probe cannot read it where nginx has not touched the
/// page yet, so that it knows it by its address.
const AUTH_TEXT: &[u8] = b"auth request unexpected status: ";

/// See the module.
pub(super) struct TrackedBinary {
    pub(super) binary: Binary,
    /// Where it stands in the kernel's table of layouts.
    pub(super) index: u32,
    /// BPF names of the probes that are attached.
    pub(super) probes: Vec<&'static str>,
    /// The probes for hidden logs that were not needed yet, with their places.
    pub(super) deferred: Vec<(&'static str, u64)>,
    /// The text of its failures was seen to be hidden, or is no longer read.
    pub(super) log_hides: bool,
    /// Its probes' attachments.
    links: Vec<(&'static str, UProbeLinkId)>,
    /// How much of its error log had to be read, unless it is not read any more.
    pub(super) log: Option<LogRate>,
    /// Its error log is no longer read, since it says too much.
    pub(super) log_unread: bool,
    /// Whether this host itself has it, apart from any container: it stays probed when nobody runs it.
    pub(super) installed: bool,
    /// Since when nobody runs it.
    pub(super) unused_since: Option<Instant>,
    /// Where the file has [`AUTH_TEXT`].
    auth_text: Option<u64>,
    /// Its path in its own root.
    pub(super) exe: BString,
}

impl TrackedBinary {
    /// Attaches the probes to the very file that was read, and sets its layout at `index`.
    ///
    /// # Errors
    /// When the kernel refuses a probe, or has no room for another layout, or the file was changed; no probe stays then.
    pub(super) fn attach(
        binary: Binary,
        exe: BString,
        index: u32,
        passthrough: bool,
        kernel: &mut Kernel,
    ) -> Result<Self> {
        let here = std::fs::metadata(Path::new(OsStr::from_bytes(&exe)));
        let installed = here.is_ok_and(|here| BinaryId::from(&here) == binary.id) && !binary.is_overlaid();
        let (layout, source) = layout::of(&binary);
        log::debug!("{exe}: layout from {source:?}: {layout:?}");
        kernel.set_layout(index, layout)?;
        let mut new = Self {
            auth_text: binary.find(AUTH_TEXT),
            binary,
            index,
            probes: Vec::new(),
            deferred: Vec::new(),
            log_hides: false,
            installed,
            unused_since: None,
            links: Vec::new(),
            log: None,
            log_unread: false,
            exe,
        };
        match new.attach_probes(passthrough, kernel) {
            Ok(()) => Ok(new),
            Err(error) => {
                new.detach(kernel);
                Err(error)
            }
        }
    }

    /// The same probes on the same file, which is `binary` through another mount.
    ///
    /// # Errors
    /// When the kernel refuses a probe; none of the new ones stays then.
    pub(super) fn moved_to(&self, binary: Binary, kernel: &mut Kernel) -> Result<Self> {
        let mut new = Self {
            auth_text: self.auth_text,
            binary,
            index: self.index,
            probes: self.probes.clone(),
            deferred: self.deferred.clone(),
            log_hides: self.log_hides,
            installed: false,
            unused_since: None,
            links: Vec::new(),
            log: None,
            log_unread: self.log_unread,
            exe: self.exe.clone(),
        };
        for (program, _) in &self.links {
            let Some(point) = new.binary.functions.get(program) else { continue };
            let offset = point.offset();
            if let Err(error) = new.attach_one(program, offset, kernel) {
                new.detach(kernel);
                return Err(error);
            }
        }
        new.log = self.log.as_ref().map(|_| LogRate::new(clock::now()));
        Ok(new)
    }

    fn attach_probes(&mut self, passthrough: bool, kernel: &mut Kernel) -> Result<()> {
        for Uprobe { program, when, .. } in &UPROBES {
            let offset = self.binary.functions.get(program).map(|point| point.offset());
            let Some(offset) = offset.filter(|_| passthrough || *when != When::Passthrough) else { continue };
            if *when == When::LogHides {
                self.deferred.push((program, offset));
            } else {
                self.attach_one(program, offset, kernel)?;
                if *program == LOG {
                    self.log = Some(LogRate::new(clock::now()));
                }
            }
            self.probes.push(program);
        }
        Ok(())
    }

    /// Attaches one probe.
    ///
    /// # Errors
    /// When the kernel refuses it, or the file was changed.
    pub(super) fn attach_one(
        &mut self,
        program: &'static str,
        offset: u64,
        kernel: &mut Kernel,
    ) -> Result<()> {
        let link = kernel.attach_uprobe(program, &self.binary.pinned_path()?, offset)?;
        self.links.push((program, link));
        Ok(())
    }

    /// Takes the probes of one program back.
    ///
    /// # Errors
    /// When one was not attached.
    pub(super) fn detach_one(&mut self, program: &str, kernel: &mut Kernel) -> Result<()> {
        let of_program = self.links.extract_if(.., |(name, _)| *name == program);
        let links: Vec<_> = of_program.collect();
        links.into_iter().try_for_each(|(name, link)| kernel.detach_uprobe(name, link))
    }

    /// Takes all probes back, so that nothing holds the file and what it is mounted from.
    pub(super) fn detach(&mut self, kernel: &mut Kernel) {
        for (name, link) in self.links.drain(..) {
            if let Err(error) = kernel.detach_uprobe(name, link) {
                log::debug!("{}: {name} stays attached: {error:#}", self.exe);
            }
        }
    }

    /// What the kernel gets to know of a process of this binary, which lies `bias` above its addresses in the file.
    pub(super) fn traced(&self, bias: Option<u64>) -> Traced {
        let texts = bias.map_or(0..0, |bias| {
            let texts = self.binary.texts();
            texts.start.wrapping_add(bias)..texts.end.wrapping_add(bias)
        });
        Traced {
            layout: self.index,
            log_hides: u32::from(self.log_hides),
            texts_from: texts.start,
            texts_to: texts.end,
            auth_text: bias.zip(self.auth_text).map_or(0, |(bias, text)| text.wrapping_add(bias)),
        }
    }
}
