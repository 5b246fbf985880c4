//! One nginx executable with its probes.

use std::path::Path;

use anyhow::Result;
use aya::programs::uprobe::UProbeLinkId;
use bstr::BString;
use ngx502_common::config::Traced;

use super::logs::LogRate;
use crate::kernel::load::Kernel;
use crate::kernel::providers::{LOG, UPROBES, Uprobe, When};
use crate::nginx::{Binary, layout};
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
    /// The probe that reads its error log, unless there is none any more, and how much it had to read.
    pub(super) log: Option<(UProbeLinkId, LogRate)>,
    /// Its error log is no longer read, since it says too much.
    pub(super) log_unread: bool,
    /// Where the file has [`AUTH_TEXT`].
    auth_text: Option<u64>,
    /// Its path in its own root.
    pub(super) exe: BString,
}

impl TrackedBinary {
    /// Attaches the probes to the executable at `path`, and sets its layout at `index`.
    ///
    /// # Errors
    /// When the kernel refuses a probe, or has no room for another layout.
    pub(super) fn attach(
        binary: Binary,
        path: &Path,
        exe: BString,
        index: u32,
        passthrough: bool,
        kernel: &mut Kernel,
    ) -> Result<Self> {
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
            log: None,
            log_unread: false,
            exe,
        };
        for Uprobe { program, when, .. } in &UPROBES {
            let offset = new.binary.functions.get(program).copied();
            let Some(offset) = offset.filter(|_| passthrough || *when != When::Passthrough) else { continue };
            if *when == When::LogHides {
                new.deferred.push((program, offset));
            } else {
                let link = kernel.attach_uprobe(program, path, offset)?;
                if *program == LOG {
                    new.log = Some((link, LogRate::new(clock::now())));
                }
            }
            new.probes.push(program);
        }
        Ok(new)
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
