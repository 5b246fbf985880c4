//! `cargo xtask picture`: docs/verdict.svg, a verdict as the product itself prints it, in colour.
//!
//! The default capture is of a real incident: Debian 12's nginx in front of its PHP-FPM, in a memory cgroup of 256 MiB named
//! as systemd names a service's, and a script that allocates without end. `ngx502 replay` writes to a pseudo-terminal, since
//! it uses colour on a terminal only.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anstyle::{Color, RgbColor};
use anstyle_svg::{Term, WIN10_CONSOLE};
use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};

use crate::setup::{self, Task};
use crate::{build, exec};

const CAPTURE: &str = "ngx502/tests/fixtures/php-fpm.ngx502";
const PICTURE: &str = "docs/verdict.svg";

const TEXT: Color = Color::Rgb(RgbColor(0xd0, 0xd7, 0xde));
const GROUND: Color = Color::Rgb(RgbColor(0x0d, 0x11, 0x17));

/// What a user types before.
const PROMPT: &str = "$ sudo ngx502 trace\n\n";

/// Columns: GitHub shows that many at a readable size.
const WIDTH: u16 = 110;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The capture; its first verdict is drawn.
    #[arg(long, value_name = "FILE", default_value = CAPTURE)]
    capture: PathBuf,
    /// Options for `ngx502 replay`, e.g. `-- --cause oom-killed`.
    #[arg(last = true)]
    filters: Vec<String>,
}

/// Draws the first verdict of a capture.
///
/// # Errors
/// If the product cannot be built or run, or prints no verdict.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Task::Build)?;
    let shown = replay(args)?;
    // Blocks are separated by empty lines; a verdict is the one with arrows.
    let verdict =
        shown.split("\n\n").find(|block| block.contains('→')).context("the capture has no verdict")?;
    let term = Term::new().palette(WIN10_CONSOLE).fg_color(TEXT).bg_color(GROUND);
    let svg = term.render_svg(&format!("{PROMPT}{verdict}\n"));
    let path = exec::workspace().join(PICTURE);
    fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// What the product prints on a terminal.
fn replay(args: &Args) -> Result<String> {
    let program = build::development()?;
    let size = Winsize { ws_row: 50, ws_col: WIDTH, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).context("cannot open a pseudo-terminal")?;
    let mut command = Command::new(program);
    command
        .args(["replay", "--format", "human"])
        .args(&args.filters)
        .arg(exec::workspace().join(&args.capture))
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(pty.slave);
    let mut child = command.spawn().context("ngx502 does not start")?;
    // The last copy of the terminal's other side, whose close ends the reading.
    drop(command);
    let mut shown = Vec::new();
    // Linux ends it with EIO instead of an end of file.
    let _ = File::from(pty.master).read_to_end(&mut shown);
    ensure!(child.wait()?.success(), "ngx502 replay failed");
    Ok(String::from_utf8_lossy(&shown).replace("\r\n", "\n"))
}
