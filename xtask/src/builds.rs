//! nginx as others build it: compiled from the source that the crate `nginx-src` carries, then tested by live rows.
//!
//! Distributions and container images differ in what nginx was configured with, which moves its structs, and in how it
//! was linked, which decides what symbols are left. Each build here is one such difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::vm::support;
use crate::{build, exec, setup};

/// The crate and its release; the part behind the `+` is nginx's own.
const SOURCE: (&str, &str) = ("nginx-src", "=1.28.5");

/// Modules that the live rows need, and nothing that is not in a small image.
const MODULES: [&str; 5] = [
    "--with-http_ssl_module",
    "--with-http_v2_module",
    "--with-http_auth_request_module",
    "--with-threads",
    "--with-debug",
];

/// One way to build nginx.
pub(crate) struct Build {
    name: &'static str,
    /// Added to [`MODULES`].
    configure: &'static [&'static str],
    /// Modules of [`MODULES`] that it is built without.
    without: &'static [&'static str],
    cflags: &'static str,
    ldflags: &'static str,
    strip: bool,
    /// Names of live tests that it is put through.
    tests: &'static [&'static str],
}

/// A failure of each kind: told by errno, by text, by time, by the kernel alone; and what is no failure.
const ROWS: &[&str] = &[
    "verdict::refused-nobody",
    "verdict::socket-missing",
    "verdict::closed-after-request-unix",
    "verdict::header-too-big",
    "verdict::slow",
    "verdict::no-live-upstreams",
    "verdict::status-502",
    "life::two-builds",
    "life::upgrade",
    "crit::closed-after-request",
    "crit::slow",
    "level::",
];

const PLAIN: Build = Build {
    name: "",
    configure: &[],
    without: &[],
    cflags: "-O2",
    ldflags: "-Wl,-E",
    strip: true,
    tests: ROWS,
};

const BUILDS: &[Build] = &[
    Build { name: "plain", ..PLAIN },
    Build { name: "compat", configure: &["--with-compat"], ..PLAIN },
    Build { name: "unstripped", cflags: "-O2 -g", strip: false, ..PLAIN },
    Build { name: "lto", cflags: "-O2 -flto=auto", ldflags: "-Wl,-E -flto=auto -O2", ..PLAIN },
    Build { name: "no-cache", configure: &["--without-http-cache"], ..PLAIN },
    // As few modules as the rows can do with, like an image for one purpose.
    Build {
        name: "minimal",
        configure: &[
            "--without-http_ssi_module",
            "--without-http_userid_module",
            "--without-http_geo_module",
            "--without-http_map_module",
            "--without-http_memcached_module",
            "--without-http_browser_module",
            "--without-http_gzip_module",
        ],
        without: &["--with-http_v2_module", "--with-threads", "--with-debug"],
        cflags: "-Os",
        ..PLAIN
    },
    // No dynamic symbols, but the ordinary ones.
    Build { name: "static", cflags: "-O2 -fno-pie", ldflags: "-static -no-pie", strip: false, ..PLAIN },
    // No symbols at all: nothing to attach to, which has to be said.
    Build {
        name: "static-stripped",
        cflags: "-O2 -fno-pie",
        ldflags: "-static -no-pie",
        tests: &["unusable::"],
        ..PLAIN
    },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The builds to test instead of all.
    builds: Vec<String>,
    /// Compile them, say where they are, and test nothing.
    #[arg(long)]
    compile_only: bool,
}

/// Builds and tests those named, or all.
pub(crate) fn run(args: &Args) -> Result<()> {
    for name in &args.builds {
        if !BUILDS.iter().any(|build| build.name == name) {
            let known: Vec<_> = BUILDS.iter().map(|build| build.name).collect();
            bail!("no build is called {name}; there are: {}", known.join(", "));
        }
    }
    let wanted = |build: &&Build| args.builds.is_empty() || args.builds.iter().any(|name| name == build.name);
    let builds: Vec<&Build> = BUILDS.iter().filter(wanted).collect();
    if args.compile_only {
        return compile(&builds).map(drop);
    }
    let failed = test_each(&builds, false, &mut |_| {})?;
    if !failed.is_empty() {
        bail!("nginx builds failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Tests every build, giving each line of the tests to `each_line`; returns the names of those that failed.
///
/// # Errors
/// If a build cannot be made or the tests do not start.
pub(crate) fn test(allow_skips: bool, each_line: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    test_each(&BUILDS.iter().collect::<Vec<_>>(), !allow_skips, each_line)
}

/// Makes each build and says where it is.
fn compile(builds: &[&Build]) -> Result<Vec<PathBuf>> {
    setup::ensure(setup::Task::Builds)?;
    let source = source()?;
    let make = |build: &&Build| {
        let nginx = build.make(&source).with_context(|| format!("nginx as `{}`", build.name))?;
        println!("nginx build {}: {}", build.name, nginx.display());
        Ok(nginx)
    };
    builds.iter().map(make).collect()
}

fn test_each(builds: &[&Build], no_skips: bool, each_line: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    for (build, nginx) in builds.iter().zip(compile(builds)?) {
        let (mut right, mut all) = (0, 0);
        let mut each_line = |line: &str| {
            if line.starts_with("test ") && !line.starts_with("test result") {
                all += 1;
                right += u32::from(line.ends_with(" ... ok"));
            }
            each_line(line);
        };
        for test in build.tests {
            let mut cargo = exec::cargo("test");
            cargo
                .args(["--package", "ngx502", "--test", "live", "--", test])
                .env("NGX502_TEST_NGINX", &nginx);
            if no_skips {
                cargo.env("NGX502_NO_SKIPS", "1");
            }
            if !exec::tee(build::test_as_root(&mut cargo)?, &mut each_line)?.success() {
                failed.push(format!("{} ({test})", build.name));
            }
        }
        support::record_build(build.name, right, all)?;
    }
    Ok(failed)
}

impl Build {
    /// Compiles, unless the same was compiled before; returns the binary.
    fn make(&self, source: &Path) -> Result<PathBuf> {
        let folder = folder().join(self.name);
        let binary = folder.join("nginx");
        let arguments = self.arguments();
        let key = format!("{} {arguments:?} strip {}", source.display(), self.strip);
        let key_file = folder.join("key");
        if fs::read_to_string(&key_file).is_ok_and(|made_of| made_of == key) {
            return Ok(binary);
        }
        let tree = folder.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(&folder)?;
        exec::run(Command::new("cp").arg("--recursive").arg(source).arg(&tree))?;
        exec::run(Command::new("auto/configure").args(&arguments).current_dir(&tree))?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        exec::run(Command::new("make").args(["--silent", &format!("-j{jobs}")]).current_dir(&tree))?;
        fs::copy(tree.join("objs/nginx"), &binary)?;
        if self.strip {
            exec::run(Command::new("strip").arg(&binary))?;
        }
        fs::remove_dir_all(&tree)?;
        // Written last, so that a half-made build is never taken for a whole one.
        fs::write(&key_file, key)?;
        Ok(binary)
    }

    fn arguments(&self) -> Vec<String> {
        let modules = MODULES.iter().filter(|module| !self.without.contains(module));
        let flags = modules.chain(self.configure).map(|flag| (*flag).to_owned());
        flags
            .chain([format!("--with-cc-opt={}", self.cflags), format!("--with-ld-opt={}", self.ldflags)])
            .collect()
    }
}

/// nginx's source, which cargo fetches as it does any crate.
fn source() -> Result<PathBuf> {
    let (name, release) = SOURCE;
    let fetch = folder().join("fetch");
    fs::create_dir_all(fetch.join("src"))?;
    fs::write(fetch.join("src/lib.rs"), "")?;
    // A workspace of its own: it must not join the one that surrounds it.
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{name} = \
         \"{release}\"\n"
    );
    fs::write(fetch.join("Cargo.toml"), manifest)?;
    let mut cargo = exec::cargo("metadata");
    cargo.args(["--format-version", "1", "--manifest-path"]).arg(fetch.join("Cargo.toml"));
    let metadata: Value =
        serde_json::from_str(&exec::read(&mut cargo)?).context("cargo's metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo's metadata lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = Path::new(manifest.with_context(|| format!("cargo did not fetch {name}"))?);
    Ok(manifest.with_file_name("nginx"))
}

fn folder() -> PathBuf {
    exec::workspace().join("target/nginx")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_configured_as_its_row_says() {
        let minimal = BUILDS.iter().find(|build| build.name == "minimal").unwrap().arguments();
        assert!(minimal.iter().any(|flag| flag == "--without-http_ssi_module"), "{minimal:?}");
        assert!(minimal.iter().all(|flag| flag != "--with-threads"), "{minimal:?}");
        assert!(minimal.contains(&"--with-cc-opt=-Os".to_owned()), "{minimal:?}");
    }

    #[test]
    fn names_are_unique_since_they_are_folders() {
        let mut names: Vec<_> = BUILDS.iter().map(|build| build.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BUILDS.len());
    }
}
